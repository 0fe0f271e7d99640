"""`tamis cache`: shows, checks and clears the passage cache on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.filesize import decimal

from tamis.compressors.options import Option
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import passages_folder
from tamis.service.cli.display.bars import counting_bar
from tamis.service.cli.display.output import print_note
from tamis.service.cli.options.model_folder import HomeFolder
from tamis.service.cli.options.typer_options import takes_options

if TYPE_CHECKING:
    from tamis.probes.kv_cache.disk import CacheFiles, DamagedFile

EPILOG = """
**Examples**

`tamis compress docs/ -q "How are keys rotated?" --cache ~/.cache/tamis/passages` fills it, and so
does `tamis ask-context`, up to 2 GiB

`tamis cache stats` shows how much is kept, of which models

`tamis cache verify --remove` hashes every file and deletes the damaged ones

A damaged file is never served, verified or not: it is found when it is read, and read again.
"""
EXIT_DAMAGED = EXIT_REMAINING = 1

app = typer.Typer(
    help="Show, check and clear the passages that are kept on disk.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
OPTIONS = {
    "folder": Option("Where passages are kept. Default: passages/ in the cache folder of tamis."),
    "as_json": Option("Print one JSON object.", flag="--json"),
}


@app.command("stats")
@takes_options(OPTIONS)
def stats(folder: Path | None = None, as_json: bool = False, home: HomeFolder = None) -> None:
    """Show how many passages are kept, their bytes, and the models that read them."""
    files = _cache_files(folder, home)
    entries, size = files.size()
    models = files.models()
    if as_json:
        found = {"entries": entries, "bytes": size, "models": dict(sorted(models.items()))}
        typer.echo(json.dumps({"folder": str(files.folder), **found}))
        return
    typer.echo(f"{files.folder}: {entries:,} passages, {decimal(size)}")
    for model, count in sorted(models.items()):
        typer.echo(f"  {model}: {count:,}")


@app.command("clear")
@takes_options(OPTIONS, yes=Option("Do not ask.", short="-y"))
def clear(folder: Path | None = None, yes: bool = False, home: HomeFolder = None) -> None:
    """Delete every kept passage; other files in the folder stay."""
    files = _cache_files(folder, home)
    entries, _ = files.size()
    if not yes:
        typer.confirm(f"Delete {entries:,} passages from {files.folder}?", abort=True, err=True)
    freed, remaining = files.clear(), files.size()[0]
    deleted = max(0, entries - remaining)
    typer.echo(f"{files.folder}: {deleted:,} passages deleted, {decimal(freed)} freed")
    if remaining:
        print_note(
            f"tamis: {remaining:,} passages could not be deleted; check the permissions of "
            f"{files.folder}"
        )
        raise typer.Exit(EXIT_REMAINING)


@app.command("verify")
@takes_options(OPTIONS, remove=Option("Delete the damaged ones."))
def verify(
    folder: Path | None = None, remove: bool = False, as_json: bool = False, home: HomeFolder = None
) -> None:
    """Hash every file and name the damaged ones; exit code 1 if there are any."""
    files = _cache_files(folder, home)
    entries, _ = files.size()
    faults = _find_faults(files, entries)
    removed = {fault.file for fault in faults if remove and files.drop_damaged(fault)}
    if as_json:
        named = [{"file": str(fault.file), "why": fault.reason} for fault in faults]
        found = {"entries": entries, "damaged": named, "removed": len(removed)}
        typer.echo(json.dumps({"folder": str(files.folder), **found}))
    else:
        for fault in faults:
            done = "; removed" if fault.file in removed else "; not removed" if remove else ""
            typer.echo(f"{fault.file}: {fault.reason}{done}")
        typer.echo(f"{files.folder}: {entries:,} passages, {len(faults):,} damaged")
    if faults:
        raise typer.Exit(EXIT_DAMAGED)


def _cache_files(folder: Path | None, home: Path | None) -> CacheFiles:
    """The files of a cache folder, which is not created here.

    Raises:
        BadInput: a folder that was named does not exist.
    """
    from tamis.probes.kv_cache.disk import CacheFiles

    if folder is not None and not folder.is_dir():
        raise BadInput(f"there is no folder {folder}; passages are kept by --cache or cache=")
    return CacheFiles(folder or passages_folder(home), 1)


def _find_faults(files: CacheFiles, entries: int) -> list[DamagedFile]:
    """The damaged files, found with a bar on stderr."""
    found = []
    with counting_bar("hashing", entries) as advance:
        for fault in files.check_files():
            found += [fault] if fault else []
            advance()
    return found
