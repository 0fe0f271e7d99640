"""`bench speed --documents`: time and evidence of many documents, with gate and cascade."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tamis.probes.errors import BadInput, ProxyMissing
from tamis.service.cli.display.console import make_console


def run_documents(
    proxy: str,
    numbers: Sequence[int],
    data: Sequence[Path],
    limit: int,
    tokens: int,
    paths: Sequence[str],
    as_json: bool,
) -> None:
    """Times requests of so many documents of so many tokens, and prints times and evidence.

    Raises:
        BadInput: no labelled records, too few of them, or a path that there is not.
    """
    from tamis.compressors.registry import DEFAULT, layers_needed, load_proxy
    from tamis_lab.bench.speed.documents import document_cases, measure_documents
    from tamis_lab.datasets.record_files import RecordFile, answerable_records

    if not data:
        raise BadInput("--documents are made of labelled records; give --data FILE")
    reader = load_proxy(proxy, layers_needed(DEFAULT, proxy))
    count = reader.layout.tokenizer.count
    found: dict[str, Any] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for number in numbers:
            cases = [
                case
                for file in data
                for case in document_cases(
                    answerable_records(RecordFile(file, None)), number, tokens, count
                )[:limit]
            ]
            task = progress.add_task(f"{number} documents", total=len(cases))
            found[str(number)] = measure_documents(
                reader, cases, paths, partial(progress.advance, task), _encoder(proxy)
            )
    if as_json:
        typer.echo(json.dumps({"documents": found, "passage_tokens": tokens}))
    else:
        make_console().print(documents_table(found, tokens))


def _encoder(proxy: str) -> Any:
    """The sentence encoder as users have it: where it is installed."""
    from tamis.compressors.registry import DEFAULT_ENCODER, InstalledModels

    try:
        return InstalledModels(proxy, DEFAULT_ENCODER, None).encoder()
    except ProxyMissing:
        return None


def documents_table(found: Mapping[str, Mapping[str, Any]], tokens: int) -> Table:
    """One row for each number of documents, path and way."""
    table = Table(title=f"Documents of {tokens} tokens")
    for column in ("documents", "path", "way", "ms p50", "times as fast", "CPU", "evidence"):
        table.add_column(column, justify="left" if column in ("path", "way") else "right")
    table.add_column("read", justify="right")
    for number, paths in found.items():
        for path, ways in paths.items():
            for way, cell in ways.items():
                table.add_row(
                    number,
                    path,
                    way,
                    f"{cell['ms_p50']:,.0f}",
                    f"{cell['faster']:.2f}",
                    f"{cell['faster_cpu']:.2f}",
                    _evidence_text(cell),
                    f"{cell['units_read']:.0%}" if "units_read" in cell else "",
                )
    return table


def _evidence_text(cell: Mapping[str, Any]) -> str:
    if "gold_first" in cell:
        return f"gold first {cell['gold_first']:.3f}"
    shares = {name: value for name, value in cell.items() if name.startswith("evidence_")}
    return ", ".join(f"{value:.3f} at {name.split('_')[1]}" for name, value in shares.items())
