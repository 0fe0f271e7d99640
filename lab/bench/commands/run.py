"""`tamis lab bench run`: runs a method over labelled records, with one result line per record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import record_bars
from tamis_lab.options.bench_options import SHARP, ProxyName
from tamis_lab.options.output_files import check_targets

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N records.")]


@report_errors()
def run_records(
    records: Annotated[Path, typer.Argument(help="Labelled records, .jsonl or .jsonl.gz.")],
    out: Annotated[
        Path, typer.Option("--out", help="Result lines; a run that was cut short goes on.")
    ],
    method: Annotated[str, typer.Option(help="See `tamis methods`.")] = DEFAULT,
    keep: Annotated[
        float, typer.Option(help="Up to 1 a share of the tokens, above whole tokens.")
    ] = 0.1,
    limit: Limit = None,
    distractors: Annotated[int, typer.Option(help="Other passages beside each record's own.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the distractors.")] = 0,
    proxy: ProxyName = SHARP,
    language: Annotated[
        str, typer.Option(help="Of the documents; auto is each record's lang.")
    ] = "auto",
    gold_out: Annotated[
        Path | None, typer.Option("--gold-out", help="Also write the records as they were used.")
    ] = None,
) -> None:
    """Compress every record of a file and write what was kept, a line per record.

    Example: tamis lab bench run dev.jsonl.gz --method lexical --keep 0.1 --out results.jsonl
    """
    from tamis.service.api.compress import compressor, counter_of
    from tamis_lab.bench.evidence import run as bench
    from tamis_lab.datasets.result_file import ResultFile

    check_targets(out, gold_out)
    settings = bench.RunSettings(keep, method, distractors, seed, proxy, language)
    rows = bench.load_run_records(records, settings)
    built = compressor(method, proxy, counter_of("proxy", proxy))
    results = ResultFile(out, bench.fingerprint(settings, rows))
    rows = rows[:limit]
    if gold_out:
        bench.write_gold(gold_out, rows, records, out)
    due = [row for row in rows if row["id"] not in results.done_keys]
    with record_bars() as progress:
        task = progress.add_task(f"{method} on {records.name}", total=len(due))
        for _ in bench.compress_records(due, built, settings, results):
            progress.advance(task)
    skipped, failed = (
        len(rows) - len(due),
        f", {results.failed} with errors" if results.failed else "",
    )
    typer.echo(f"{out}: {len(due)} records done, {skipped} were there before{failed}", err=True)
