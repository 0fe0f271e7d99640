"""`tamis models`: lists, fetches, checks and removes models."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import typer
from rich.filesize import decimal
from rich.table import Table

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT_MODELS
from tamis.probes.errors import BadInput
from tamis.probes.hub import zoo
from tamis.probes.named_tokenizers import VOCABULARIES
from tamis.service.cli.display import EXIT_REFUSED
from tamis.service.cli.display.bars import download_bar
from tamis.service.cli.display.output import UNCUT_WIDTH, make_console, print_note
from tamis.service.cli.options.model_folder import HomeFolder, describe_origin, models_folder
from tamis.service.cli.options.typer_options import takes_options

app = typer.Typer(
    help="List, fetch, check and remove the models tamis reads with.", no_args_is_help=True
)

OPTIONS = {
    "name": Option(f"One of {', '.join(zoo.ZOO)}.", is_argument=True),
    "yes": Option("Do not ask.", short="-y"),
}
PULL_EPILOG = """
**Examples**

`tamis models pull` all that the default method reads with

`tamis models pull smollm2-135m` the proxy alone

`tamis models pull gemma3-270m` shows its terms and asks; `--accept-terms` where nobody can answer

`tamis models pull gemma3-270m --from wheels/ --accept-terms` on a machine without a network
"""


@app.command("list")
@takes_options()
def list_models(home: HomeFolder = None) -> None:
    """Show the models tamis knows, and which of them are here."""
    here = {one.entry.name: one for one in zoo.installed_models(models_folder(home))}
    table = Table("name", "kind", "size", "licence", "installed")
    table.add_column("path", overflow="fold")
    for entry in zoo.ZOO.values():
        one = here.get(entry.name)
        state = "no" if one is None else "damaged" if one.fault else "yes"
        size = decimal(one.size_bytes if one else entry.size_bytes)
        table.add_row(
            entry.name, entry.kind, size, entry.licence, state, str(one.folder) if one else ""
        )
    make_console(pipe_width=UNCUT_WIDTH).print(table)


@app.command("tokenizers")
@takes_options()
def list_tokenizers() -> None:
    """Show the tokenizers that budgets may name, such as gpt-4o, and which of them are here."""
    table = Table("names", "vocabulary", "here", "from")
    for one in VOCABULARIES:
        file = one.file()
        shown = "approximation" if one.approximates else one.name
        names = ", ".join(dict.fromkeys([*one.models, one.name]))
        table.add_row(names, shown, "no" if file is None else "yes", str(file or one.install))
    make_console(pipe_width=UNCUT_WIDTH).print(table)


@app.command("pull", epilog=PULL_EPILOG)
@takes_options(
    names=Option(
        f"Some of {', '.join(zoo.ZOO)}, or hub ids such as owner/model. Default: those that the "
        f"default method reads with, {', '.join(DEFAULT_MODELS)}.",
        metavar="[NAME]...",
        is_argument=True,
    ),
    source=Option(
        "The wheel, or the folder with its wheels, brought by hand to a machine without a network.",
        flag="--from",
    ),
    accept_terms=Option("Accept the terms of a model that has some, without being asked."),
)
def pull_models(
    names: list[str] | None = None,
    source: Path | None = None,
    accept_terms: bool = False,
    home: HomeFolder = None,
) -> None:
    """Fetch models, check their hashes and install them; a model that is here is left alone.

    A model whose licence has terms shows them first and asks; without a terminal it is refused
    unless --accept-terms is given.
    """
    root_folder = models_folder(home)
    wanted = names or list(DEFAULT_MODELS)
    if source is not None and len(wanted) > 1:
        raise BadInput(
            f"--from brings one model and {len(wanted)} are asked for; give the name of that one"
        )
    for name in wanted:
        print_note(describe_origin(name, source))
        accepted = accept_terms
        if zoo.needs_terms(name, root_folder):
            accepted = _accepts_terms(zoo.ZOO[name], accept_terms)
        with download_bar() as progress:
            folder = zoo.pull(name, root_folder, source, progress, accept_terms=accepted)
        typer.echo(folder)


def _accepts_terms(entry: zoo.ZooEntry, accepted: bool) -> bool:
    """Prints a model's terms; whether the user accepts them, by the option or at the terminal."""
    assert entry.terms is not None
    lines = [f"{entry.name} is under the {entry.terms.name}", f"  {entry.terms.address}"]
    print_note("\n".join([*lines, *(f"  - {ask}" for ask in entry.terms.conditions)]))
    if accepted or not sys.stdin.isatty():
        return accepted
    if typer.confirm("Do you accept these terms?", err=True):
        return True
    print_note(f"tamis: {entry.name} was not fetched")
    raise typer.Exit(EXIT_REFUSED)


@app.command("info")
@takes_options(OPTIONS, verify=Option("Hash every file."))
def model_info(name: str, verify: bool = False, home: HomeFolder = None) -> None:
    """Show where a model comes from and whether it is here; --verify hashes its files."""
    root_folder = models_folder(home)
    folder = zoo.verify(name, root_folder) if verify else None
    if name not in zoo.ZOO:
        zoo.locate(name, root_folder)  # raises, and names those there are
    for key, value in _model_facts(zoo.ZOO[name], root_folder):
        typer.echo(f"{key:10} {value}")
    if folder is not None:
        typer.echo(f"{'verified':10} every file has the SHA-256 it was installed with")


@app.command("remove")
@takes_options(OPTIONS)
def remove_model(name: str, yes: bool = False, home: HomeFolder = None) -> None:
    """Delete an installed model."""
    root_folder = models_folder(home)
    if not yes:
        typer.confirm(f"Delete {name} from {root_folder}?", abort=True, err=True)
    freed = zoo.remove(name, root_folder)
    typer.echo(
        f"{name}: {decimal(freed)} freed" if freed else f"{name} is not installed in {root_folder}"
    )


def _model_facts(entry: zoo.ZooEntry, root: Path) -> Iterator[tuple[str, str]]:
    here = next((one for one in zoo.installed_models(root) if one.entry is entry), None)
    yield "name", entry.name
    yield "kind", entry.kind
    yield "summary", entry.summary
    yield "licence", entry.licence
    if entry.terms is not None:
        yield "terms", entry.terms.address
    for pin in entry.wheels:
        yield "origin", pin.wheel_name
        yield "sha256", pin.wheel_sha256
    yield "size", decimal(entry.size_bytes)
    yield "revision", entry.revision
    yield (
        "installed",
        "no" if here is None else here.fault or f"{decimal(here.size_bytes)} in {here.folder}",
    )
