"""`tamis index export`: copies an index into a search engine."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.display.index_results import optimising_progress
from tamis.service.cli.display.text import print_note
from tamis.service.cli.options import compress_options as opt
from tamis.service.cli.options.index_options import Folder

EPILOG = """
**Examples**

`tamis index export docs.index --to lancedb docs.lance`, or an object store: `s3://bucket/docs`

`tamis index export docs.index --to qdrant http://localhost:6333 --name docs`; a folder in place of
the URL is Qdrant's local mode

Then, in Python: `tamis.open_store("lancedb", "docs.lance").search("How are keys rotated?")`
"""


@report_errors()
def export(
    index: Folder,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="A folder, or the URL of what holds the data.")
    ],
    to: Annotated[str, typer.Option("--to", help="The engine: lancedb or qdrant.")],
    name: Annotated[str, typer.Option(help="Of the table or collection.")] = "tamis",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is there under this name.")
    ] = False,
    quiet: opt.Quiet = False,
) -> None:
    """Copy chunks and keys into a search engine, which then finds them.

    Keys become multi-vectors, which the engine compares by late interaction. Words are not copied:
    an exported index is searched by keys alone.
    """
    from tamis.retrieval.index.store import CorpusIndex
    from tamis.retrieval.stores.engines import open_engine
    from tamis.retrieval.stores.export import export_index

    started = time.perf_counter()
    opened = CorpusIndex.open(index)
    with optimising_progress(len(opened), quiet, "chunks") as report:
        store = open_engine(to, target, name)
        try:
            count = export_index(opened, store, overwrite, report)
        finally:
            store.close()
    if not quiet:
        took = time.perf_counter() - started
        print_note(f"{to} {target}: {count:,} chunks in {name!r}, {took:.1f} s")
