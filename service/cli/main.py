"""`tamis`: the command line."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from importlib.metadata import version
from typing import Annotated, Any

import typer

from tamis.service.cli.bench import app as bench
from tamis.service.cli.commands import (
    ask_context,
    batch,
    cache,
    compress,
    doctor,
    index,
    keys,
    methods,
    models,
    rerank,
    serve,
)
from tamis.service.cli.display.errors import EXIT_REFUSED
from tamis.service.cli.display.short_help import ShortHelpCommand, hide_flag_types
from tamis.service.cli.probe import app as probe
from tamis.service.cli.probe import heads

_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

# read when torch is loaded: waiting threads spin for microseconds, then sleep. The default, to spin
# for long, takes ten times as long beside another busy process; to sleep at once takes a fifth
# longer on an idle machine
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

EPILOG = """
**Examples**

`tamis doctor` says what is here and what is missing

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 500`

`tamis compress docs/ -q "How are keys rotated?" --explain-all` shows every sentence
"""

app = typer.Typer(
    help="Keep the sentences of a retrieved context that answer a question, verbatim, within a "
    "token budget.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compress", cls=ShortHelpCommand, epilog=compress.EPILOG)(compress.compress)
app.command("rerank", cls=ShortHelpCommand, epilog=rerank.EPILOG)(rerank.rerank)
app.command("ask-context", epilog=ask_context.EPILOG)(ask_context.ask_context)
app.command("methods", epilog=methods.EPILOG)(methods.methods)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.command("serve", cls=ShortHelpCommand, epilog=serve.EPILOG)(serve.command)
app.add_typer(keys.app, name="keys")
app.add_typer(index.app, name="index")
app.add_typer(models.app, name="models")
app.add_typer(cache.app, name="cache")
app.add_typer(batch.app, name="batch")
app.add_typer(bench.app, name="bench")
app.add_typer(probe.app, name="probe")
app.add_typer(heads.app, name="heads")


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"tamis {version('tamis')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """The root command; its help is on `app`."""


def root_command() -> Any:
    """The command line, with the help that is shown."""
    command = typer.main.get_command(app)
    hide_flag_types(command)
    return command


def run() -> None:
    """Runs the command line; output that cannot be written is one message and exit code 2."""
    if sys.stdout is None:  # closed: only a command that writes to it fails
        sys.stdout = open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")
    try:
        try:
            root_command()(prog_name="tamis")
        finally:
            sys.stdout.flush()
    except OSError as error:
        _drop_output()
        if error.errno == errno.EPIPE:
            sys.exit(1)
        if error.errno not in _UNWRITABLE:
            raise
        why = "it is closed" if error.errno == errno.EBADF else error.strerror
        message = f"tamis: the output cannot be written ({why}); make room, or send it elsewhere"
        with suppress(OSError):
            typer.echo(message, err=True)
        sys.exit(EXIT_REFUSED)


def _drop_output() -> None:
    """Discards buffered output, which the interpreter would try to write again at exit."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
