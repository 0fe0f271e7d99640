"""`tamis index`: builds, changes and searches an index of a corpus by words and attention keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.filesize import decimal
from rich.table import Table

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadIndex
from tamis.service.cli.display.bars import counting_bar
from tamis.service.cli.display.output import (
    dump_json,
    make_console,
    nothing_found,
    print_note,
    print_passed_over,
    printable,
)
from tamis.service.cli.options.compress_options import INPUT, SHARED
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import INDEX, STRUCTURE, parse_legs, takes_options

if TYPE_CHECKING:
    from tamis.retrieval.index.store import CorpusIndex, Hit
    from tamis.retrieval.index.writer import DocumentCallback, PutCounts

_SNIPPET_CHARS = 160
EXIT_NOT_ALL = 1
OPTIONS = SHARED | INDEX


@contextmanager
def indexing_progress(
    corpus: Sequence[str], quiet: bool, allow_empty: bool = False
) -> Iterator[tuple[DocumentCallback, float]]:
    """A bar over the documents, as a callback for each of them; and when it started."""
    from tamis.service.files.corpus import count_documents, walk_corpus

    total = count_documents(walk_corpus(corpus, allow_empty))
    with counting_bar("indexing", total, quiet) as advance:
        yield (lambda *_: advance()), time.perf_counter()


def open_index(index: Path, **options: Any) -> CorpusIndex:
    """`CorpusIndex.open`, whose module is imported only now."""
    from tamis.retrieval.index.store import CorpusIndex

    return CorpusIndex.open(index, **options)


def print_counts(index: Path, counts: PutCounts, started: float, quiet: bool) -> None:
    """Prints what was done and how long it took, unless `quiet`, and every file not read.

    Raises:
        typer.Exit: some were not, with `EXIT_NOT_ALL`.
    """
    if not quiet:
        _print_counts(index, counts, started)
        print_passed_over(counts.passed_over)
    if counts.passed_over:
        raise typer.Exit(EXIT_NOT_ALL)


def _print_counts(index: Path, counts: PutCounts, started: float) -> None:
    removed = f"{counts.removed:,} removed, " if counts.removed else ""
    print_note(
        f"{index}: {counts.added:,} documents added, {counts.replaced:,} replaced, {removed}"
        f"{counts.unchanged:,} unchanged; {counts.chunks:,} chunks read in "
        f"{time.perf_counter() - started:.1f} s"
    )
    for note in counts.notes:
        print_note(note)
    if counts.elsewhere:
        print_note(
            f"{index}: {counts.elsewhere:,} documents stay that are of other files, or of none"
        )
    if counts.repeated:
        from tamis.service.files.document_text import name_first

        print_note(
            f"{index}: {counts.repeated.total():,} documents had an id that came again; the later "
            f"counts: {name_first(sorted(counts.repeated))}"
        )


def hits_table(hits: Sequence[Hit]) -> Table:
    """A row per chunk that was found: score, id, and the beginning of its text."""
    table = Table("score", "chunk", "text", box=None)
    for hit in hits:
        line = " ".join(hit.text.split())
        text = line if len(line) <= _SNIPPET_CHARS else f"{line[: _SNIPPET_CHARS - 1]}…"
        table.add_row(f"{hit.score:.4f}", printable(hit.id), printable(text))
    return table


OPTIMISE_EPILOG = """
**Examples**

`tamis index optimise docs.index` gives back the room of what was deleted, and merges segments; one
with 400,000 keys or more gets a graph

`tamis index optimise docs.index --questions asked.txt` builds the graph for questions like yours

`tamis index optimise docs.index --search exact` takes it away
"""


@takes_options(OPTIONS, search=STRUCTURE)
def optimise(
    index: Path,
    search: str = "auto",
    questions: Path | None = None,
    proxy: str | None = None,
    quiet: bool = False,
    home: HomeFolder = None,
) -> None:
    """Give back the room of what was deleted, merge segments, and make large ones quick to search.

    A graph over the keys leads a search to those that promise most, so that it reads a small share
    of them. Searches go on meanwhile, in the old state.
    """
    from tamis.service.api.index import optimise_index

    started = time.perf_counter()
    held = open_index(index).stats()
    keys = held["tokens"] * len(held["heads"] or ())
    with counting_bar("keys", keys, quiet) as report:
        optimise_index(
            index, search, questions=questions, proxy=proxy, root=models_folder(home), report=report
        )
    if not quiet:
        now = open_index(index).stats()
        kinds = ", ".join(f"{count} {kind}" for kind, count in now["searches"].items())
        print_note(
            f"{index}: {now['tokens']:,} keys in {now['segments']} segments ({kinds}), "
            f"{decimal(held['bytes'])} before and {decimal(now['bytes'])} now, "
            f"{time.perf_counter() - started:.1f} s"
        )


EPILOG = """
**Examples**

`tamis index build docs/ -o docs.index` reads every chunk once with the proxy

`tamis index build docs/ -o docs.index --keep-kv` keeps what was read, for warm answers

`tamis index build corpus.jsonl -o corpus.index --no-model` indexes words alone, in seconds

`tamis index search docs.index -q "How are keys rotated?" --where lang=en --where "year>=2020"`

`tamis index sync docs.index docs/` adds, replaces and removes what has changed in the folder

`tamis index add docs.index new.md` adds or replaces; `tamis index delete docs.index old.md`

`tamis index optimise docs.index` gives back room, and makes large indexes quick to search

`tamis index verify docs.index` reads every byte against its checksum
"""
app = typer.Typer(help="Index a corpus once, then search it.", epilog=EPILOG, no_args_is_help=True)


@app.command("build", epilog=EPILOG)
@takes_options(
    OPTIONS,
    out=Option("The folder to make.", short="-o"),
    no_model=Option("Index words alone: BM25, at full speed."),
    vectors=Option("Also index sentence vectors: minilm, minilm:last ..."),
    chunk_chars=Option("Most characters of a chunk."),
    language=Option("Of the documents, for finding sentences.", INPUT),
    proxy=Option("The model of the keys. Default: smollm2-135m; of --keep-kv the one that keeps."),
    recipe=Option("Which heads to use: a file of `tamis lab fit-recipe`."),
    keep_kv=Option("Keep what was read, so that `tamis ask-context` reads no chunk."),
    overwrite=Option("Replace an index that is there, once the new one is finished."),
    search=STRUCTURE,
)
def build(
    corpus: list[str],
    out: Path,
    no_model: bool = False,
    vectors: str | None = None,
    chunk_chars: int = 1200,
    language: str = "en",
    proxy: str | None = None,
    recipe: Path | None = None,
    keep_kv: bool = False,
    overwrite: bool = False,
    search: str = "auto",
    questions: Path | None = None,
    id_field: str | None = None,
    text_field: str | None = None,
    title_field: str = "title",
    encoding: str = "utf-8",
    quiet: bool = False,
    offline: bool = False,
    home: HomeFolder = None,
) -> None:
    """Index a corpus. Cut short, the same command goes on where it was."""
    from tamis.service.api import index as indexing
    from tamis.service.cli.options.default_proxy import fetch_default_proxy
    from tamis.service.files.corpus import CorpusFields

    models = models_folder(home)
    settings = indexing.index_settings(
        model=not no_model,
        vectors=vectors,
        recipe=recipe,
        proxy=proxy,
        language=language,
        chunk_chars=chunk_chars,
        keep_kv=keep_kv,
        root=models,
    )
    if settings.keys is not None and proxy in (None, DEFAULT_PROXY):
        fetch_default_proxy(DEFAULT_PROXY, models, offline)
    with indexing_progress(corpus, quiet) as (report, clock):
        counted = indexing.build_index(
            out,
            corpus,
            settings,
            fields=CorpusFields(id_field, text_field, title_field),
            encoding=encoding,
            proxy=proxy,
            root=models,
            overwrite=overwrite,
            search=search,
            questions=questions,
            report=report,
        )
    print_counts(out, counted, clock, quiet)


def _add_or_sync(sync: bool) -> Callable[..., None]:
    """The command `add`, or the same with `sync`, which also removes."""

    @takes_options(
        OPTIONS,
        allow_empty=Option("Take a folder without files as emptied: its documents may all go."),
    )
    def put(
        index: Path,
        corpus: list[str],
        id_field: str | None = None,
        text_field: str | None = None,
        title_field: str = "title",
        proxy: str | None = None,
        encoding: str = "utf-8",
        allow_empty: bool = False,
        quiet: bool = False,
        home: HomeFolder = None,
    ) -> None:
        from tamis.retrieval.storage.manifest import Manifest
        from tamis.service.api import index as indexing
        from tamis.service.files.corpus import CorpusFields

        Manifest.read(index)
        with indexing_progress(corpus, quiet, allow_empty) as (report, clock):
            counted = indexing.add_documents(
                index,
                corpus,
                fields=CorpusFields(id_field, text_field, title_field),
                encoding=encoding,
                proxy=proxy,
                root=models_folder(home),
                report=report,
                sync=sync,
                allow_empty=allow_empty,
            )
        print_counts(index, counted, clock, quiet)

    return put


ADD_HELP = "Add documents; those of an id that is there are replaced, unchanged ones passed over."
SYNC_HELP = """Bring an index up to date with folders and files: add, replace, and remove.

Only what has changed is read. Documents that a folder or file does not hold any more are removed
from the index; those of other files stay. Cut short, the same command goes on where it was.
"""
app.command("add", help=ADD_HELP, epilog=EPILOG)(_add_or_sync(sync=False))
app.command("sync", help=SYNC_HELP, epilog=EPILOG)(_add_or_sync(sync=True))


@app.command("delete", epilog=EPILOG)
@takes_options(OPTIONS, ids=Option("Documents to delete.", metavar="ID...", is_argument=True))
def delete(index: Path, ids: list[str], quiet: bool = False) -> None:
    """Delete documents by their ids: all that are named, or none."""
    from tamis.retrieval.index.writer import open_writer

    with open_writer(index) as writer:
        deleted = writer.delete(ids)
        remaining = len(writer)
    if not quiet:
        print_note(f"{index}: {deleted} documents deleted, {remaining} left")


app.command("optimise", epilog=OPTIMISE_EPILOG)(optimise)


@app.command("search", epilog=EPILOG)
@takes_options(
    OPTIONS,
    question=Option("What is searched for.", short="-q"),
    k=Option("At most so many chunks.", flag="--top-k", short="-k"),
    how=INDEX["search"],
)
def search(
    index: Path,
    question: str,
    k: int = 10,
    where: list[str] | None = None,
    by: str | None = None,
    how: str = "auto",
    json: bool = False,
    proxy: str | None = None,
    home: HomeFolder = None,
) -> None:
    """Find the chunks that answer a question."""
    found = open_index(index, proxy=proxy, root=models_folder(home))
    started = time.perf_counter()
    hits = found.search(question, k, where, by=parse_legs(by), search=how)
    ms = (time.perf_counter() - started) * 1e3
    if json:
        rows = [hit.as_json() for hit in hits]
        counts = {"keys_read": hits.keys_read, "search_ms": round(ms, 1)}
        typer.echo(dump_json({"question": question, "hits": rows, **counts}))
        return
    make_console(markup=False).print(hits_table(hits))
    if not hits:
        print_note(nothing_found(len(found), where))


@app.command("stats", epilog=EPILOG)
@takes_options(OPTIONS)
def stats(index: Path, json: bool = False) -> None:
    """Say what an index holds and how it was made."""
    from tamis.retrieval.storage.manifest import BUILDING

    found = open_index(index).stats()
    if json:
        typer.echo(dump_json(found))
        return
    listed = Table(show_header=False, box=None)
    for name, value in found.items():
        text = f"{value:,}" if type(value) is int else str(value)
        text = decimal(value) if name.endswith("bytes") else text
        listed.add_row(name.replace("_", " "), text)
    make_console(markup=False).print(listed)
    if (index / BUILDING).exists():
        print_note(
            "it is being rebuilt, or that was cut short: run the same command again, with "
            "--overwrite, to go on"
        )


@app.command("verify", epilog=EPILOG)
@takes_options(OPTIONS)
def verify(index: Path) -> None:
    """Read every byte of an index and compare it with its checksum."""
    from tamis.retrieval.storage.segment import find_faults

    if found := find_faults(index):
        raise BadIndex(
            f"{index} is damaged in {len(found)} files: {'; '.join(found)}; build it again with "
            "--overwrite"
        )
    size = open_index(index).stats()["bytes"]
    typer.echo(f"{index}: every byte is as it was written ({decimal(size)})")
