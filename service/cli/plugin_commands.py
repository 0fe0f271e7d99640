"""Commands that other packages add to `tamis`, by entry points of `tamis.commands`.

An entry point names a `typer.Typer`, a command of typer's or a function. Help shows it with its
package's summary; the package is imported when its command is run.
"""

from __future__ import annotations

from typing import Any, cast

import typer
from typer.core import TyperCommand, TyperGroup

from tamis.probes.plugins import COMMANDS_GROUP, LAB_INSTALL, Plugin, find_plugins
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.short_help import hide_flag_types

LAB_COMMANDS = ("bench", "heads", "lab", "probe")
"""Commands of the lab, which may not be installed, and of tamis before the lab had them."""


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
        name = args[0] if args else ""
        if name in LAB_COMMANDS and self.get_command(ctx, name) is None:
            ctx.fail(_where_it_is(name))
        return super().resolve_command(ctx, args)


def _where_it_is(name: str) -> str:
    """Where a command is that the lab has."""
    words = "tamis lab" if name == "lab" else f"tamis lab {name}"
    if "lab" in find_plugins(COMMANDS_GROUP):
        return f"there is no command {name!r}: it is {words!r}"
    return f"there is no command {name!r}: {words!r} comes with another package: {LAB_INSTALL}"


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
        raise plugin.broken(f"{plugin.entry.value} is no typer.Typer, command or function")
    hide_flag_types(command)
    return command
