"""Quick commands: argparse reads their options in milliseconds, typer shows their help.

typer and what it imports take longer to start than a hook has time; it is used for `--help`, for
the reference, and for the errors of a command line that argparse does not understand. A command of
another package is quick if its module names its options in `OPTIONS`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tamis.compressors.options import Option
from tamis.probes.plugins import AGENTS, COMMANDS_GROUP
from tamis.service.cli.commands import COMMANDS


def find_quick_command(name: str) -> Any:
    """The module of a quick command of tamis-agents; None where another way has to find it.

    The file of its entry points is read as it lies: `importlib.metadata` takes as long to import as
    all that such a command needs of tamis.
    """
    if COMMANDS.get(name) != AGENTS:
        return None
    for folder in sys.path:
        for file in Path(folder).glob(f"{AGENTS.replace('-', '_')}*-info/entry_points.txt"):
            _, _, points = file.read_text("utf-8").partition(f"[{COMMANDS_GROUP}]\n")
            found = dict(line.split(" = ") for line in points.partition("\n\n")[0].splitlines())
            with suppress(ImportError, KeyError):  # `app` says what is wrong
                module = import_module(found[name].partition(":")[0])
                return module if hasattr(module, "OPTIONS") else None
    return None


def parse_quickly(words: Sequence[str], options: Sequence[Option]) -> dict[str, Any] | None:
    """The values of a command line; None where typer has to answer: for help, or with an error."""
    parser = _Parser(add_help=False, allow_abbrev=False, exit_on_error=False)
    rest: dict[str, Any] = {}
    for option in options:
        if option.is_argument and option.kind == list[str]:  # all that stands behind --
            at = list(words).index("--") if "--" in words else len(words)
            words, rest[option.parameter] = words[:at], list(words[at + 1 :])
        else:
            _add_to_parser(parser, option)
    try:
        values, unknown = parser.parse_known_args(words)
    except argparse.ArgumentError:
        return None
    return None if unknown else vars(values) | rest


class _Parser(argparse.ArgumentParser):
    """Prints nothing of its own: it would end the process at an argument that is missing."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _add_to_parser(parser: argparse.ArgumentParser, option: Option) -> None:
    choices, kind, parameter = option.all_choices() or None, option.kind, option.parameter
    if option.is_argument:
        parser.add_argument(parameter, choices=choices)
    elif kind is bool:
        parser.add_argument(*option.flags, dest=parameter, action="store_true")
    elif kind == list[str]:
        parser.add_argument(*option.flags, dest=parameter, action="append", default=[])
    else:
        default = (option.variable and os.environ.get(option.variable)) or option.default
        read = str if choices else kind
        parser.add_argument(
            *option.flags, dest=parameter, type=read, choices=choices, default=default
        )


def typer_command(command: Callable[..., int], options: Sequence[Option]) -> Callable[..., None]:
    """The command as typer understands it; its exit code ends the process."""
    import typer

    from tamis.service.cli.options.typer_options import typer_parameter, with_parameters

    def with_options(**given: Any) -> None:
        raise typer.Exit(command(**given))

    with_options.__doc__ = command.__doc__
    return with_parameters(with_options, [typer_parameter(option) for option in options])
