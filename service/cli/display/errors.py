"""Errors of a command: one sentence on standard error and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tamis.probes.errors import TamisError
from tamis.service.cli.display.exit_codes import EXIT_INTERRUPTED, EXIT_REFUSED
from tamis.service.cli.display.text import print_note


@contextmanager
def report_errors() -> Iterator[None]:
    """Turns tamis's own errors into a line on stderr and exit code 2, and Ctrl-C into 130.

    As a decorator, below `@app.command()`, or around a block. Any other exception is a bug and is
    not caught.
    """
    try:
        yield
    except TamisError as error:
        print_note(f"tamis: {error}")
        raise typer.Exit(EXIT_REFUSED) from error
    except KeyboardInterrupt:
        print_note("tamis: interrupted")
        raise typer.Exit(EXIT_INTERRUPTED) from None
