"""What a terminal sees when something goes wrong: one sentence, never a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from tamis.probes.errors import TamisError

REFUSED = 2
INTERRUPTED = 130


@contextmanager
def reported() -> Iterator[None]:
    """Turns tamis's own errors into a line on stderr and exit code 2, and Ctrl-C into 130.

    As a decorator, below `@app.command()`, or around a block. Anything else is a bug and stays one.
    """
    try:
        yield
    except TamisError as error:
        typer.echo(f"tamis: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    except KeyboardInterrupt:
        typer.echo("tamis: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
