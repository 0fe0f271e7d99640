"""`tamis bench`: run a method over labelled records; compare methods by the evidence they keep."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.service.cli.bench import speed
from tamis.service.cli.display.console import screen
from tamis.service.cli.display.errors import reported
from tamis.service.cli.options.bench_common import (
    NEIGHBOUR,
    RECORDS,
    SHARP,
    ProxyName,
    Readings,
    Seed,
    Shares,
    bars,
    budgets_of,
    check_targets,
    files_of,
    listed,
    reporter,
    write_json,
)

METHODS = ("question_rows", "fusion", "lexical", "embedding", "bm25+minilm", "sentinel", "lead")
app = typer.Typer(help="Measure how much evidence methods keep.", no_args_is_help=True)
app.command("speed", epilog=speed.EPILOG)(speed.speed)

Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N records.")]


@app.command("run", epilog=RECORDS)
@reported()
def run_records(
    records: Annotated[Path, typer.Argument(help="Labelled records, .jsonl or .jsonl.gz.")],
    out: Annotated[
        Path, typer.Option("--out", help="Result lines; a run that was cut short goes on.")
    ],
    method: Annotated[str, typer.Option(help="See `tamis methods`.")] = "question_rows",
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
    """Compress every record of a file and write what was kept, a line a record.

    Example: tamis bench run dev.jsonl.gz --method lexical --keep 0.1 --out results.jsonl
    """
    from tamis.service.api.compress import compressor, counter_of
    from tamis.service.evaluation.evidence import run as bench

    check_targets(out, gold_out)
    settings = bench.Settings(keep, method, distractors, seed, proxy, language)
    rows = bench.records_for(records, settings)
    built = compressor(method, proxy, counter_of("proxy", proxy))
    results = bench.Results(out, bench.fingerprint(settings, rows))
    rows = rows[:limit]
    if gold_out:
        bench.write_gold(gold_out, rows, records, out)
    due = [row for row in rows if row["id"] not in results.done]
    with bars() as progress:
        task = progress.add_task(f"{method} on {records.name}", total=len(due))
        for _ in bench.run(due, built, settings, results):
            progress.advance(task)
    skipped, failed = (
        len(rows) - len(due),
        f", {results.failed} with errors" if results.failed else "",
    )
    typer.echo(f"{out}: {len(due)} records done, {skipped} were there before{failed}", err=True)


@app.command(epilog=RECORDS)
@reported()
def evidence(
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder with the sets. Default: {NEIGHBOUR}.", show_default=False),
    ] = None,
    sets: Annotated[str, typer.Option(help="Names of files, with commas.")] = (
        "xquad_en,hotpotqa,2wikimultihopqa,covid_qa"
    ),
    methods: Annotated[
        str | None,
        typer.Option(
            help=f"Names of methods, with commas. Default: {', '.join(METHODS)}; of these, what "
            "has a probe for the proxy.",
            show_default=False,
        ),
    ] = None,
    budgets: Shares = "0.05,0.1,0.2,0.33",
    limit: Annotated[int, typer.Option(min=1, help="Records a set, from all over it.")] = 100,
    full: Annotated[bool, typer.Option("--full", help="All records.")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for evidence.json and evidence.png.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: Readings = None,
) -> None:
    """Compare methods by the share of gold sentences they keep at each budget.

    Example: tamis bench evidence --data mine/ --sets support,wiki --methods question_rows,lexical
    reads mine/support.jsonl and mine/wiki.jsonl (or .jsonl.gz).
    """
    from tamis.service.evaluation.evidence.evidence import surroundings
    from tamis.service.evaluation.evidence.methods import assemble
    from tamis.service.evaluation.evidence.plot import figure_class
    from tamis.service.evaluation.evidence.table import footnote, table

    check_targets(json_file)
    shares = budgets_of(budgets)
    names = listed(methods, "methods") if methods else _usual(proxy)
    files = files_of(data, listed(sets, "sets"))
    if out:
        figure_class()  # an hour of reading must not end in a missing package
        _make(out)
    models = assemble(names, proxy, cache or cache_home() / "looks")
    found = _measured(files, models.panel, shares, None if full else limit, seed, proxy)
    report = {
        "command": ["tamis", *sys.argv[1:]],
        "seed": seed,
        "proxies": list(models.proxies),
        **surroundings(),
        "sets": found,
    }
    for name, of in found.items():
        screen().print(table(name, of))
    screen().print(footnote(found))
    _save(report, out, json_file)


def _usual(proxy: str) -> list[str]:
    """The usual methods; one that knows nothing of the proxy is left out, and that is said."""
    from tamis.compressors.registry import ships_for
    from tamis.service.evaluation.evidence.methods import BLENDS

    names = [name for name in METHODS if name in BLENDS or ships_for(name, proxy)]
    if left_out := [name for name in METHODS if name not in names]:
        typer.echo(f"left out: {', '.join(left_out)} has no probe for {proxy}", err=True)
    return names


def _measured(
    files: Mapping[str, Path],
    panel: Any,
    budgets: list[float],
    limit: int | None,
    seed: int,
    proxy: str,
) -> dict[str, Any]:
    """Figures of every set, with a bar for each."""
    from tamis.service.api.compress import counter_of
    from tamis.service.evaluation.evidence.evidence import figures, records_of, sha256_of, tally

    counter, found = counter_of("proxy", proxy), {}
    with bars() as progress:
        for name, path in files.items():
            rows, distractors = records_of(path, limit, seed)
            report = reporter(progress, name, len(rows))
            counts = tally(rows, panel, budgets, counter, distractors, report)
            found[name] = figures(counts, seed) | {"sha256": sha256_of(path)}
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder} cannot be made: {error}") from error


def _save(report: Mapping[str, Any], out: Path | None, json_file: Path | None) -> None:
    from tamis.service.evaluation.evidence.plot import draw

    for path in (json_file, out / "evidence.json" if out else None):
        if path:
            write_json(report, path)
    if out:
        draw(report["sets"], out / "evidence.png")
        typer.echo(f"wrote {out / 'evidence.png'}", err=True)
