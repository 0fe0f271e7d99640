"""What a command prints: errors in a sentence, JSON without loss, tables, text safe for a terminal.

An error is one sentence on standard error and an exit code, never a traceback. A console is as wide
as the terminal, or of a fixed width in a pipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import TamisError
from tamis.service.cli.display import EXIT_INTERRUPTED, EXIT_REFUSED
from tamis.service.files.row_values import escape_surrogates, replace_non_finite

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 160
UNCUT_WIDTH = 400
"""Width for tables with paths: a program that reads a pipe needs each row on one line."""
_CONTROLS = {
    **{c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}


def dump_json(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """Indented JSON: a lone surrogate becomes its escape, so that none is lost; NaN and infinity,
    which JSON lacks, become null.
    """
    text = json.dumps(replace_non_finite(value), ensure_ascii=False, allow_nan=False, indent=2)
    return escape_surrogates(text)


def printable(text: str) -> str:
    """A text for a terminal or page: as many code points, without control characters.

    Control characters become their Unicode symbols, lone surrogates U+FFFD; tabs and line feeds
    stay.
    """
    return text.translate(_CONTROLS)


def print_note(text: str) -> None:
    """Prints a line to standard error; names of files in it cannot control the terminal."""
    import typer

    typer.echo(printable(text), err=True)


def print_passed_over(passed_over: Mapping[str, str]) -> None:
    """Names the first files or rows that were not read, and why, on standard error."""
    from tamis.service.files.document_text import MOST_REASONS, count_passed_over, name_reasons

    for reason in name_reasons(passed_over)[:MOST_REASONS]:
        print_note(f"passed over {reason}")
    if (more := count_passed_over(passed_over) - MOST_REASONS) > 0:
        print_note(f"passed over {more:,} more")


def nothing_found(chunks: int, where: list[str] | None) -> str:
    """What to try after a search without hits, in an index of so many chunks."""
    if not chunks:
        return "nothing was found: the index is empty; add documents with tamis index add"
    return f"nothing was found; {'loosen --where, or ' if where else ''}ask in other words"


@contextmanager
def report_errors() -> Iterator[None]:
    """Turns tamis's own errors into a line on stderr and exit code 2, and Ctrl-C into 130.

    As a decorator, below `@app.command()`, or around a block; `takes_options` does it by itself.
    Any other exception is a bug and is not caught.
    """
    import typer

    try:
        yield
    except TamisError as error:
        print_note(f"tamis: {error}")
        raise typer.Exit(EXIT_REFUSED) from error
    except KeyboardInterrupt:
        print_note("tamis: interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None


def make_console(
    *, stderr: bool = False, pipe_width: int = PIPE_WIDTH, markup: bool = True
) -> Console:
    """A console that does not highlight numbers: tables mark what matters by their own style."""
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, markup=markup)
    if not console.is_terminal:
        console.width = pipe_width  # the default of 80 columns would cut tables
    return console
