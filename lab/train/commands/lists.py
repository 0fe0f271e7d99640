"""`tamis lab probe lists`: makes the queries for `tamis lab probe rank` from labelled records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tamis.probes.atomic_file import write_whole
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors

EPILOG = """
**Examples**

`tamis lab probe lists claims.jsonl.gz --corpus corpus.jsonl.gz --cited --without
test_queries.jsonl.gz --out claims_lists.jsonl`

`tamis lab probe rank claims_lists.jsonl --corpus corpus.jsonl.gz --out rank.safetensors`

A document of a record is found in the corpus by its text. Give the queries that you will measure on
as `--without`: records that ask one of them, or share a relevant document with one, are left out.
"""


@report_errors()
def lists(
    records: Annotated[
        Path, typer.Argument(help="Labelled records, JSON Lines, optionally gzipped.")
    ],
    corpus: Annotated[Path, typer.Option("--corpus", help="The documents to search in.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the queries (.jsonl).")],
    without: Annotated[
        list[Path] | None,
        typer.Option("--without", help="Queries that will be measured; repeatable."),
    ] = None,
    cited: Annotated[
        bool,
        typer.Option("--cited", help="All documents of a record are relevant, gold or not."),
    ] = False,
    depth: Annotated[int, typer.Option(min=2, help="Documents a list.")] = 20,
) -> None:
    """Search a corpus by BM25 for every labelled question, and note what is relevant."""
    from tamis.service.files.streams import read_json_lines
    from tamis_lab.datasets.records import load_records
    from tamis_lab.options.bars import file_bars
    from tamis_lab.train.probe.query_lists import HeldOutQueries, build_query_lists

    rows = load_records(records)
    documents = [row for _, row in read_json_lines(corpus) if isinstance(row.get("text"), str)]
    if without_id := [n for n, row in enumerate(documents, 1) if "docid" not in row]:
        raise BadInput(f"{corpus}, document {without_id[0]}: 'docid' is needed beside 'text'")
    queries = [row for path in without or () for _, row in read_json_lines(path)]
    held_out = HeldOutQueries(
        frozenset(str(row.get("query", "")).casefold() for row in queries),
        frozenset(str(docid) for row in queries for docid in row.get("qrels") or {}),
    )
    with file_bars() as report:
        found, left = build_query_lists(
            rows, documents, held_out, depth, cited, lambda n: report(records.name, n, len(rows))
        )
    try:
        write_whole(out, "".join(json.dumps(row) + "\n" for row in found).encode())
    except OSError as error:
        raise BadInput(f"{out} cannot be written: {error}") from error
    typer.echo(
        f"wrote {out}: {len(found)} queries with lists of {depth}; left out {left.held_out} that "
        f"touch held-out queries, {left.not_found} whose list holds nothing relevant, "
        f"{left.not_in_corpus} whose documents are not in the corpus",
        err=True,
    )
