"""The options of quick commands: argparse reads them in milliseconds, typer shows their help.

typer and what it imports take longer to start than a hook has time; it is used for `--help`, for
the reference, and for the errors of a command line that argparse does not understand.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from tamis.compressors.options import Option, options_of
from tamis.compressors.tools.types import MOST_TOKENS
from tamis.probes.errors import TamisError
from tamis.service.agents.shortening import RATIO, Shortening

SHORTENING = options_of(Shortening)
_MEMORY_BYTES = 200 << 20


def shortening_from(given: dict[str, Any]) -> Shortening:
    """What the options of `SHORTENING` add up to; they are taken out of `given`.

    Without a budget it is `RATIO` of the tokens, and `MOST_TOKENS` at most.

    Raises:
        BadInput: they cannot be followed.
    """
    shortening = Shortening(**{option.name: given.pop(option.parameter) for option in SHORTENING})
    if shortening.lossless or (shortening.max_tokens, shortening.ratio) != (None, None):
        return shortening
    return replace(shortening, max_tokens=MOST_TOKENS, ratio=RATIO)


@contextmanager
def limited_memory(shortening: Shortening) -> Iterator[None]:
    """Ends what takes more than 200 MiB, where the system counts them; models may take theirs.

    Raises:
        TamisError: it took more.
    """
    from tamis.probes.tokens import ESTIMATE

    used = Path("/proc/self/statm")  # which Linux alone has
    if shortening.method is not None or shortening.tokenizer != ESTIMATE or not used.exists():
        yield
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    most = int(used.read_text().split()[5]) * resource.getpagesize() + _MEMORY_BYTES
    most = most if before[1] < 0 else min(most, before[1])
    resource.setrlimit(resource.RLIMIT_DATA, (most, before[1]))
    try:
        yield
    except MemoryError as error:
        raise TamisError(f"shortening takes more than {_MEMORY_BYTES >> 20} MiB") from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


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


def print_warning(warning: str) -> None:
    """Writes a warning to standard error; names of files in it cannot control the terminal."""
    from tamis.service.cli.display.output import printable

    sys.stderr.write(printable(f"tamis: {warning}\n"))
