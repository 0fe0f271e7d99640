"""The output of `tamis index`: a progress bar, the counts of a build, the chunks found."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tamis.service.cli.display.text import printable

if TYPE_CHECKING:
    from pathlib import Path

    from tamis.retrieval.index.store import Hit
    from tamis.retrieval.index.writer import DocumentCallback, PutCounts

_SNIPPET = 160


@contextmanager
def indexing_progress(
    corpus: Sequence[str], quiet: bool
) -> Iterator[tuple[DocumentCallback, float]]:
    """A bar over the documents, as a callback for each of them; and when it started."""
    from tamis.service.files.corpus import count_documents, find_corpus_files

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    total = count_documents(find_corpus_files(corpus))
    bar = Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet, transient=True
    )
    with bar:
        task = bar.add_task("indexing", total=total)
        yield (lambda *_: bar.advance(task)), time.perf_counter()


def print_counts(home: Path, counted: PutCounts, clock: float, quiet: bool) -> None:
    if quiet:
        return
    typer.echo(
        f"{home}: {counted.added:,} documents added, {counted.replaced:,} replaced, "
        f"{counted.unchanged:,} unchanged; {counted.chunks:,} chunks read in "
        f"{time.perf_counter() - clock:.1f} s",
        err=True,
    )
    if counted.repeated:
        typer.echo(
            f"{home}: {counted.repeated:,} documents had an id that came again; the later counts",
            err=True,
        )


def hit_json(hit: Hit) -> dict[str, Any]:
    return {
        "id": hit.id,
        "document": hit.doc,
        "title": hit.title,
        "heading": hit.heading,
        "start": hit.start,
        "stop": hit.stop,
        "score": hit.score,
        "scores": dict(hit.scores or {}),
        "metadata": dict(hit.metadata),
        "text": hit.text,
    }


def hits_table(hits: Sequence[Hit]) -> Table:
    table = Table("score", "chunk", "text", box=None)
    for hit in hits:
        line = " ".join(hit.text.split())
        text = line if len(line) <= _SNIPPET else f"{line[: _SNIPPET - 1]}…"
        table.add_row(f"{hit.score:.4f}", printable(hit.id), printable(text))
    return table
