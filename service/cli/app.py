"""All commands of `tamis`, in the order in which help lists them; then those of other packages.

A command that the command line names is imported alone; help imports all of them.

Other packages add commands by entry points of `tamis.commands`. An entry point names a
`typer.Typer`, a command of typer's or a function. Help shows it with its package's summary; the
package is imported when its command is run. Those of tamis-agents stand among our own, each a
function in a module with its `EPILOG`, and with `OPTIONS` if it is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from tamis.probes.errors import BrokenPlugin
from tamis.probes.plugins import AGENTS, COMMANDS_GROUP, INSTALL, LAB, Plugin, find_plugins
from tamis.service.cli.commands import COMMANDS
from tamis.service.cli.display.output import report_errors
from tamis.service.cli.display.short_help import ShortHelpCommand, finish_help
from tamis.service.cli.quick import typer_command

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
        """The command that the arguments name; one of a package of ours says how to install it."""
        name = args[0] if args else ""
        package = {"lab": LAB, **COMMANDS}.get(name, "")
        if package in INSTALL and self.get_command(ctx, name) is None:
            ctx.fail(f"there is no command {name!r}: it comes with {package}: {INSTALL[package]}")
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
        command = _find_command(name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif command is not None:
            module = sys.modules[command.__module__]
            if options := getattr(module, "OPTIONS", ()):
                command = typer_command(command, options)
            shown = ShortHelpCommand if name in SHORT_HELP else None
            app.command(name, cls=shown, epilog=module.EPILOG)(command)
    return app


def _find_command(name: str) -> Any:
    """The function or the `typer.Typer` of a command; None where its package is not here."""
    path, _, attribute = COMMANDS[name].partition(":")
    if path != AGENTS:
        return getattr(import_module(f"tamis.service.cli.commands.{path}"), attribute)
    plugin = find_plugins(COMMANDS_GROUP).get(name)
    with suppress(BrokenPlugin):  # the command says so when it is run
        return plugin and plugin.load()
    return None


def root_command(words: Sequence[str] = ()) -> Any:
    """The command line that reads these words, with the help that is shown."""
    command = typer.main.get_command(
        build_app([name for name in words[:1] if name in COMMANDS] or COMMANDS)
    )
    finish_help(command)
    return command
