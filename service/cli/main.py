"""`tamis`: the command line."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from tamis.service.cli import bench, compress, doctor, methods, models, probe

EPILOG = """
**Examples**

`tamis doctor` says what is here and what is missing

`tamis compress docs/ -q "How are keys rotated?" --max-tokens 500`

`tamis compress docs/ -q "How are keys rotated?" --explain` shows every sentence with its score
"""

app = typer.Typer(
    help="Keep the sentences of a retrieved context that answer a question, verbatim, within a "
    "token budget.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.command("compress", epilog=compress.EPILOG)(compress.compress)
app.command("methods", epilog=methods.EPILOG)(methods.methods)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)
app.add_typer(models.app, name="models")
app.add_typer(bench.app, name="bench")
app.add_typer(probe.app, name="probe")


def _print_version(asked: bool) -> None:
    if asked:
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
    """See the help of `app`."""


def run() -> None:
    """What the `tamis` script calls."""
    app(prog_name="tamis")
