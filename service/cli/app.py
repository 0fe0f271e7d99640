"""All commands of `tamis`, in the order in which help lists them; then those of other packages.

A command that the command line names is imported alone; help imports all of them.

Other packages add commands by entry points of `tamis.commands`. An entry point names a
`typer.Typer`, a command of typer's or a function. Help shows it with its package's summary; the
package is imported when its command is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from tamis.probes.plugins import COMMANDS_GROUP, LAB_INSTALL, Plugin, find_plugins
from tamis.service.cli.display.output import report_errors
from tamis.service.cli.display.short_help import ShortHelpCommand, finish_help
from tamis.service.cli.quick.options import typer_command

COMMANDS = {
    "compress": "commands.compress:compress",
    "rerank": "commands.rerank:rerank",
    "ask-context": "commands.ask_context:ask_context",
    "pipe": "quick.pipe:run",
    "run": "quick.run:run",
    "hook": "quick.hook:run",
    "mcp": "commands.mcp:mcp",
    "methods": "commands.methods:methods",
    "doctor": "commands.doctor:doctor",
    "estimate": "commands.estimate:estimate",
    "serve": "commands.serve:command",
    "keys": "commands.serve:keys_app",
    "index": "commands.index:app",
    "models": "commands.models:app",
    "cache": "commands.cache:app",
    "batch": "commands.batch:app",
}
"""The function of each command, or its `typer.Typer`, below this package."""
SHORT_HELP = ("compress", "rerank", "serve")
"""Commands whose help shows their first options, until it is asked for all."""


class PluginGroup(TyperGroup):
    """A group whose own commands come first, then those of other packages."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names in the order in which help shows them."""
        own = super().list_commands(ctx)
        return [*own, *(name for name in find_plugins(COMMANDS_GROUP) if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command of its own, else one that is loaded when it is run."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        plugin = find_plugins(COMMANDS_GROUP).get(cmd_name)
        return PluginCommand(plugin) if plugin else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments name; one of the lab's says how to install it."""
        if args[:1] == ["lab"] and self.get_command(ctx, "lab") is None:
            ctx.fail(f"there is no command 'lab': it comes with another package: {LAB_INSTALL}")
        return super().resolve_command(ctx, args)


class PluginCommand(TyperCommand):
    """Stands for a command of another package until it is run."""

    def __init__(self, plugin: Plugin) -> None:
        """Loads nothing."""
        super().__init__(plugin.name, help=f"{plugin.summary} [{plugin.package}]".strip())
        self.plugin = plugin

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **more: Any) -> Any:
        """The context of the command that the package has.

        Raises:
            Exit: the package cannot be loaded; the message names it.
        """
        with report_errors():
            command = command_of(self.plugin)
        return command.make_context(info_name, args, parent=parent, **more)


def command_of(plugin: Plugin) -> Any:
    """The command that an entry point names.

    Raises:
        BrokenPlugin: it cannot be loaded, or is no command.
    """
    found = plugin.load()
    if isinstance(found, typer.Typer):
        command = typer.main.get_command(found)
    elif hasattr(found, "make_context"):
        command = cast(Any, found)
    elif callable(found) and not isinstance(found, type):
        holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        holder.command()(found)
        command = typer.main.get_command(holder)
    else:
        raise plugin.broken_error(f"{plugin.entry.value} is no typer.Typer, command or function")
    finish_help(command)
    return command


EPILOG = """
**Examples**

`tamis doctor` says what is here and what is missing

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 500`

`tamis compress docs/ -q "How are keys rotated?" --explain-all` shows every sentence
"""


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tamis {version('tamis')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The root command; its help is on the app."""


def build_app(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line with the commands of these names, imported; without others, with all."""
    app = typer.Typer(
        help="Keep the sentences of a retrieved context that answer a question, verbatim, within a "
        "token budget.",
        cls=PluginGroup,
        epilog=EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_enable=False,
    )
    app.callback()(_root)
    for name in names:
        path, _, attribute = COMMANDS[name].partition(":")
        module = import_module(f"tamis.service.cli.{path}")
        command = getattr(module, attribute)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
            continue
        if path.startswith("quick."):
            command = typer_command(command, module.OPTIONS)
        shown = ShortHelpCommand if name in SHORT_HELP else None
        app.command(name, cls=shown, epilog=module.EPILOG)(command)
    return app


def root_command(words: Sequence[str] = ()) -> Any:
    """The command line that reads these words, with the help that is shown."""
    command = typer.main.get_command(
        build_app([name for name in words[:1] if name in COMMANDS] or COMMANDS)
    )
    finish_help(command)
    return command
