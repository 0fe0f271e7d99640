"""What the benches have in common: words of the command line, bars, and tables for a pipe."""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tamis.probes.errors import BadInput
from tamis.service.api.languages import SHARP as SHARP  # what a bench measures is what users get

NEIGHBOUR = Path("../shared/data/dev")
IMAGES = (".png", ".svg", ".pdf", ".jpg", ".webp")
RECORDS = """
**Labelled records** are JSON Lines, maybe gzipped: a line a question, spans half-open in code
points, `gold` the places among `sents` of the sentences that answer it

`{"id": "1", "question": "How are keys rotated?", "docs": [{"title": "Keys", "text": "Keys are
rotated every 90 days. Rooms are painted in spring.", "sents": [[0, 31], [32, 60]], "gold": [0]}]}`

Documents that many questions share may stand in `NAME_docs.jsonl` beside `NAME.jsonl`, as
`{"doc_id", "title", "text", "sents"}`; a record then has `{"ref": DOC_ID, "gold": [...]}` instead.
"""

ProxyName = Annotated[str, typer.Option("--proxy", help="A zoo name, or a folder.")]
Shares = Annotated[str, typer.Option(help="Up to 1 a share, above whole tokens.")]
Seed = Annotated[int, typer.Option(help="Of distractors and intervals.")]
Readings = Annotated[
    Path | None, typer.Option(help="Where readings are kept. Default: the user's cache.")
]


def budgets_of(given: str) -> list[float]:
    """Budgets from a list with commas. BadInput: one that is none."""
    from tamis.service.evaluation.evidence.run import budget_of

    try:
        found = [float(word) for word in listed(given, "budgets")]
    except ValueError as error:
        raise BadInput(
            f"budgets is {given!r}; give numbers with commas, such as 0.05,0.1"
        ) from error
    for budget in found:
        budget_of(budget)
    return found


def listed(given: str, what: str) -> list[str]:
    """Names from a list with commas, each once. BadInput: there is none."""
    names = list(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not names:
        raise BadInput(f"{what} is {given!r}; name at least one")
    return names


def files_of(data: Path | None, names: list[str]) -> dict[str, Path]:
    """The files of sets by name, in the folder given or beside the project. BadInput: no folder."""
    from tamis.service.evaluation.evidence.evidence import file_of

    folder = data or NEIGHBOUR
    if not folder.is_dir():
        raise BadInput(
            f"there is no folder {folder}; give --data with a folder of labelled .jsonl files"
        )
    return {name: file_of(folder, name) for name in names}


def sizes_of(given: str) -> list[int]:
    """Sizes from a list with commas. BadInput: one that is none."""
    words = listed(given, "tokens")
    if wrong := [word for word in words if not word.isdecimal() or int(word) < 1]:
        raise BadInput(f"tokens has {wrong[0]!r}; give whole numbers of at least 1, with commas")
    return [int(word) for word in words]


def prose_of(path: Path) -> str:
    """The text of a file, maybe .gz. BadInput: it is none."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf8") as file:
            return str(file.read())
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text: {error}") from error


class Rate(ProgressColumn):
    """Records a second."""

    def render(self, task: Task) -> Text:
        """The speed of late, or a dash."""
        return Text(f"{task.speed:.1f}/s" if task.speed else "-/s", "progress.data.speed")


def reporter(progress: Progress, name: str, total: int) -> Callable[[int], None]:
    """A new bar, and what moves it."""
    task = progress.add_task(name, total=total)
    return lambda done: progress.update(task, completed=done)


@contextmanager
def bars() -> Iterator[Progress]:
    """A bar with rate and time left, on stderr."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress


def check_targets(*paths: Path | None) -> None:
    """BadInput: a file that could not be written at the end; said before anything is read."""
    for path in paths:
        if path is None:
            continue
        why = ""
        if path.is_dir():
            why = "it is a folder"
        elif not path.parent.is_dir():
            why = f"there is no folder {path.parent}"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            why = "permission denied"
        if why:
            raise BadInput(f"{path} cannot be written: {why}; name another file")


def check_images(*paths: Path | None) -> None:
    """Likewise of pictures, whose names say how they are drawn: an hour must not end in none.

    Raises:
        BadInput: it could not be written, or its ending is none that is drawn.
        MissingExtra: no matplotlib.
    """
    from tamis.service.evaluation.evidence.plot import figure_class

    check_targets(*paths)
    for path in filter(None, paths):
        figure_class()
        if path.suffix.lower() not in IMAGES:
            raise BadInput(f"{path} ends in {path.suffix or 'nothing'}; draw a .png, .svg or .pdf")


def check_probe_target(path: Path) -> None:
    """Likewise of a probe, whose folder is made where there is none."""
    from tamis.probes.probing.linear import probe_files

    if not path.name:
        raise BadInput(f"{path} cannot be written: it is a folder; name a file")
    for file in probe_files(path):
        there = next(folder for folder in (file.parent, *file.parent.parents) if folder.exists())
        check_targets(there / file.name if there != file.parent else file)


def write_json(report: Mapping[str, Any], path: Path) -> None:
    """A report as a file, and a line that says where. BadInput: it cannot be written."""
    try:
        path.write_text(json.dumps(report, indent=1) + "\n", "utf8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error
    typer.echo(f"wrote {path}", err=True)
