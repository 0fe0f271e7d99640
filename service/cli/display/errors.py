"""Errors of a command: one sentence on standard error and an exit code, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tamis.probes.errors import TamisError
from tamis.service.cli.display.exit_codes import EXIT_INTERRUPTED, EXIT_REFUSED


@contextmanager
def report_errors() -> Iterator[None]:
    """Turns tamis's own errors into a line on stderr and exit code 2, and Ctrl-C into 130.

    As a decorator, below `@app.command()`, or around a block. Any other exception is a bug and is
    not caught.
    """
    try:
        yield
    except TamisError as error:
        typer.echo(f"tamis: {error}", err=True)
        raise typer.Exit(EXIT_REFUSED) from error
    except KeyboardInterrupt:
        typer.echo("tamis: interrupted", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
