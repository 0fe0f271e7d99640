"""`tamis keys`: makes API keys, which are shown once and stored as hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.text import print_note

EPILOG = """
**Examples**

`tamis keys new ada --file keys.txt` prints a key once and adds its hash to the file

`tamis keys new batch --file keys.txt --limit 60/minute`
"""
app = typer.Typer(
    help="Make API keys for `tamis serve --keys-file`.", no_args_is_help=True, epilog=EPILOG
)


@app.callback()
def main() -> None:
    """The root command; its help is on `app`."""


@app.command("new", epilog=EPILOG)
@report_errors()
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is; it stands in logs and meters.")],
    file: Annotated[
        Path | None, typer.Option("--file", help="Add the hash to this file.", show_default=False)
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option("--limit", help="The most requests, such as 60/minute.", show_default=False),
    ] = None,
) -> None:
    """Make a key: it is printed once, and only its hash is kept."""
    try:
        from tamis.service.http.middleware.auth import new_key, read_keys
    except ImportError as error:
        raise MissingExtra(
            f"{error.name} is not installed: pip install 'tamis[service]'"
        ) from error
    if file is not None and file.exists() and name in {key.name for key in read_keys(file)}:
        raise BadInput(f"{file} has a key called {name!r}; choose another name, or remove its line")
    secret, key = new_key(name, limit)
    if file is None:
        print_note(f"# add this line to the keys file: {key.to_line()}")
    else:
        _append_line(file, key.to_line())
        print_note(f"the hash of {name}'s key is in {file}; the key itself is shown only now")
    typer.echo(secret)


def _append_line(file: Path, line: str) -> None:
    try:
        before = file.read_text("utf-8") if file.exists() else ""
        joint = "" if not before or before.endswith("\n") else "\n"
        with file.open("a", encoding="utf-8") as out:
            out.write(f"{joint}{line}\n")
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}); name another file") from error
