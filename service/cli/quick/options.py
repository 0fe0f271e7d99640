"""The options of quick commands, as a table: argparse reads it in milliseconds, typer for help.

typer and what it imports take longer to start than a hook has time; it is used for `--help`, for
the reference, and for the errors of a command line that argparse does not understand.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.service.agents.shortening import MIN_TOKENS, Shortening


@dataclass(frozen=True, slots=True)
class QuickOption:
    """One option, or one argument where the name has no dashes before it.

    Attributes:
        name: of the parameter. kind: of its value; bool is a flag, list a repeatable text.
        short: a second name, such as `-q`. choices: for an argument, its values.
        variable: of the environment, which stands in for the option.
    """

    name: str
    kind: type
    default: Any
    help: str
    short: str | None = None
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    variable: str | None = None
    panel: str | None = None

    @property
    def names(self) -> list[str]:
        """Its names on the command line, the long one first."""
        return [f"--{self.name.replace('_', '-')}", *([self.short] if self.short else [])]


Command = Callable[..., int]
_SERVICE = "Service"

SHORTENING = (
    QuickOption("max_tokens", int, None, "Keep at most N tokens of what a call returned."),
    QuickOption(
        "ratio",
        float,
        None,
        "Keep at most this share of the tokens; 0.4 if no budget is given.",
    ),
    QuickOption("min_tokens", int, MIN_TOKENS, "Leave what has fewer tokens as it is."),
    QuickOption(
        "method",
        str,
        None,
        "How lines are scored: see `tamis methods`. Without it lexical, which loads no model; "
        "with --url the service's default.",
    ),
    QuickOption("proxy", str, "auto", "The model of a method that reads with one."),
    QuickOption(
        "tokenizer",
        str,
        "estimate",
        "Counts the budget: `estimate` (by rules, within a tenth, loads nothing), `proxy`, or a "
        "tokenizer.json.",
    ),
    QuickOption(
        "url",
        str,
        None,
        "Of a running `tamis serve`, whose model is warm, such as http://localhost:8080.",
        panel=_SERVICE,
    ),
    QuickOption(
        "api_key",
        str,
        None,
        "Of that service; better in the variable, where no list of processes shows it.",
        variable="TAMIS_API_KEY",
        panel=_SERVICE,
    ),
    QuickOption("timeout", float, 30.0, "Seconds to wait for that service.", panel=_SERVICE),
)


def shortening_from(given: dict[str, Any]) -> Shortening:
    """What the options of `SHORTENING` add up to; they are taken out of `given`.

    Raises:
        BadInput: they cannot be followed.
    """
    values = {option.name: given.pop(option.name) for option in SHORTENING}
    return Shortening(timeout_s=values.pop("timeout"), **values)


def parse_quickly(words: Sequence[str], options: Sequence[QuickOption]) -> dict[str, Any] | None:
    """The values of a command line; None where typer has to answer: for help, or with an error."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for option in options:
        _add_to_parser(parser, option)
    try:
        values, unknown = parser.parse_known_args(words)
    except (argparse.ArgumentError, SystemExit):
        return None
    return None if unknown else vars(values)


def _add_to_parser(parser: argparse.ArgumentParser, option: QuickOption) -> None:
    if option.choices:
        parser.add_argument(option.name, choices=option.choices)
        return
    if option.kind is bool:
        parser.add_argument(*option.names, dest=option.name, action="store_true")
    elif option.kind is list:
        parser.add_argument(*option.names, dest=option.name, action="append", default=[])
    else:
        found = os.environ.get(option.variable) if option.variable else None
        default = found or option.default
        parser.add_argument(*option.names, dest=option.name, type=option.kind, default=default)


def typer_command(command: Command, options: Sequence[QuickOption]) -> Callable[..., None]:
    """The command with a signature that typer understands; its exit code ends the process."""
    import inspect

    import typer

    def with_options(**given: Any) -> None:
        raise typer.Exit(command(**given))

    shown = [_parameter(option) for option in options]
    with_options.__doc__ = command.__doc__
    with_options.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    with_options.__annotations__ = {p.name: p.annotation for p in shown} | {"return": None}
    return with_options


def _choices(names: Sequence[str]) -> Any:
    """The values as the enumeration that typer shows."""
    import enum

    return enum.StrEnum("choices", {name: name for name in names})


def _parameter(option: QuickOption) -> Any:
    import inspect
    from typing import Annotated

    import typer

    kind = inspect.Parameter.KEYWORD_ONLY
    if option.choices:
        argument: Any = Annotated[
            _choices(option.choices), typer.Argument(help=option.help, show_default=False)
        ]
        return inspect.Parameter(option.name, kind, annotation=argument)
    shown = typer.Option(
        *option.names,
        help=option.help,
        metavar=option.metavar,
        envvar=option.variable,
        rich_help_panel=option.panel,
        show_default=option.default not in (None, [], False),
    )
    value: Any = list[str] if option.kind is list else option.kind
    annotation: Any = Annotated[value if option.default is not None else value | None, shown]
    return inspect.Parameter(option.name, kind, default=option.default, annotation=annotation)


def print_warning(warning: str) -> None:
    """Writes a warning to standard error; names of files in it cannot control the terminal."""
    from tamis.service.cli.display.text import printable

    sys.stderr.write(printable(f"tamis: {warning}\n"))
