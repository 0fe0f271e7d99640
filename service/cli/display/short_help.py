"""Help of about a screen: `--help` shows what most need, `--help-all` every option."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperOption

LONG_HELP = "--help-all"
_TABLE_COLUMNS = 100
"""In narrower terminals a table of every option cuts the names of some."""


class ShortHelpCommand(TyperCommand):
    """A command with many options, whose help shows its first panel and names the others.

    The first panel is that of the options without one, else that of the first option.
    """

    def __init__(self, *args: Any, **given: Any) -> None:
        super().__init__(*args, **given)
        self.params.append(_long_help_option())

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the arguments, the first panel and how to see the rest; or everything."""
        more = [] if ctx.meta.get(LONG_HELP) else self._further_options()
        if not more and shutil.get_terminal_size().columns < _TABLE_COLUMNS:
            self.rich_markup_mode = None  # a plain list, in which no name is cut
        with _without(more):
            super().format_help(ctx, formatter)
        if more:
            panels = ", ".join(dict.fromkeys(str(option.rich_help_panel) for option in more))
            typer.echo(f" {len(more)} more options ({panels}): {ctx.command_path} {LONG_HELP}\n")

    def _further_options(self) -> list[TyperOption]:
        options = [p for p in self.params if isinstance(p, TyperOption) and not p.hidden]
        panels = [option.rich_help_panel for option in options if option.name != "help_all"]
        first = None if None in panels else panels[0]
        return [option for option in options if option.rich_help_panel not in (None, first)]


@contextmanager
def _without(options: list[TyperOption]) -> Iterator[None]:
    for option in options:
        option.hidden = True
    try:
        yield
    finally:
        for option in options:
            option.hidden = False


def _long_help_option() -> Any:
    """The option as typer makes it of a function: its classes take other arguments by version."""
    holder = typer.Typer(add_completion=False)

    @holder.command()
    def command(
        help_all: Annotated[
            bool,
            typer.Option(
                LONG_HELP,
                is_eager=True,
                expose_value=False,
                callback=_print_long_help,
                help="Show every option and exit.",
            ),
        ] = False,
    ) -> None: ...

    made: Any = typer.main.get_command(holder)
    return next(param for param in made.params if param.name == "help_all")


def _print_long_help(ctx: typer.Context, wanted: bool) -> None:
    if wanted:
        ctx.meta[LONG_HELP] = True
        typer.echo(ctx.get_help(), color=ctx.color)
        raise typer.Exit


def finish_help(command: Any) -> None:
    """Gives a command and those below it the long help, and takes `<bool>` off their flags."""
    params = command.get_params(typer.Context(command))
    if not any(LONG_HELP in param.opts for param in params):
        command.params.append(_long_help_option())
        command.params[-1].hidden = True  # it says what `--help` says
    for param in params:
        if getattr(param, "is_flag", False):
            param.display_type_rich = lambda **_: None
    for below in getattr(command, "commands", {}).values():
        finish_help(below)
