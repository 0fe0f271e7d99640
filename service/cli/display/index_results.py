"""The output of `tamis index`: a progress bar, the counts of a build, the chunks found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tamis.service.cli.display.text import print_note, printable

if TYPE_CHECKING:
    from pathlib import Path

    from tamis.retrieval.index.store import Hit
    from tamis.retrieval.index.writer import DocumentCallback, PutCounts

_SNIPPET_CHARS = 160


@contextmanager
def indexing_progress(
    corpus: Sequence[str], quiet: bool
) -> Iterator[tuple[DocumentCallback, float]]:
    """A bar over the documents, as a callback for each of them; and when it started."""
    from tamis.service.documents.document_text import files_passed_over
    from tamis.service.files.corpus import count_documents, files_not_read, find_corpus_files

    total = count_documents(find_corpus_files(corpus))
    with _transient_bar(quiet) as bar:
        task = bar.add_task("indexing", total=total)
        yield (lambda *_: bar.advance(task)), time.perf_counter()
    if not quiet and (note := files_passed_over(files_not_read(corpus))):
        print_note(note)


@contextmanager
def optimising_progress(
    total: int, quiet: bool, unit: str = "keys"
) -> Iterator[Callable[[int], None]]:
    """A bar over the keys or chunks that something takes in, as a callback for how many more."""
    with _transient_bar(quiet) as bar:
        task = bar.add_task(unit, total=total)
        yield lambda done: bar.advance(task, done)


def _transient_bar(quiet: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
        transient=True,
    )


def print_counts(index: Path, counts: PutCounts, started: float, quiet: bool) -> None:
    """Prints what a build did and how long it took, unless `quiet`."""
    if quiet:
        return
    print_note(
        f"{index}: {counts.added:,} documents added, {counts.replaced:,} replaced, "
        f"{counts.unchanged:,} unchanged; {counts.chunks:,} chunks read in "
        f"{time.perf_counter() - started:.1f} s"
    )
    if counts.repeated:
        print_note(
            f"{index}: {counts.repeated:,} documents had an id that came again; the later counts"
        )


def hit_json(hit: Hit) -> dict[str, Any]:
    """A chunk that was found, as JSON."""
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
    """A row per chunk that was found: score, id, and the beginning of its text."""
    table = Table("score", "chunk", "text", box=None)
    for hit in hits:
        line = " ".join(hit.text.split())
        text = line if len(line) <= _SNIPPET_CHARS else f"{line[: _SNIPPET_CHARS - 1]}…"
        table.add_row(f"{hit.score:.4f}", printable(hit.id), printable(text))
    return table
