"""`tamis lab bench sinks`: compares treatments of attention sinks by the evidence kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import (
    DEFAULT_DATA,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    find_sets,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.output_files import check_images
from tamis_lab.options.probe_options import readings_folder

EPILOG = """
**Examples**

`tamis lab bench sinks --sets hotpotqa,xquad_en --limit 60 --out sinks.png`

`tamis lab bench sinks --data mine/ --sets contracts --budgets 0.05,0.1`

Every question is read twice, for itself and for "N/A"; readings are kept, so that a second run
takes seconds. Fits judge only articles that they did not see.
"""


@report_errors()
def sinks(
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder with the sets. Default: {DEFAULT_DATA}.", show_default=False),
    ] = None,
    sets: Annotated[str, typer.Option(help="Names of files, with commas.")] = "xquad_en,hotpotqa",
    budgets: Budgets = "0.1,0.2",
    limit: Annotated[int, typer.Option(min=2, help="Records a set, from all over it.")] = 60,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Draw it here, at the last budget.")
    ] = None,
    seed: Seed = 0,
    proxy: ProxyName = DEFAULT_PROXY,
    cache: ReadingsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Renormalise, subtract "N/A", leave separators out, weigh heads: evidence kept by each."""
    from tamis.compressors import registry
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.attention import sinks as bench
    from tamis_lab.bench.attention.sinks_plot import draw_sinks
    from tamis_lab.bench.evidence.plot import figure_class
    from tamis_lab.bench.evidence.tally import environment_facts, load_gold_records
    from tamis_lab.datasets.reading_store import cached_reader

    check_images(out)
    shares = parse_budgets(budgets)
    files = find_sets(data, parse_list(sets, "sets"))
    if out:
        figure_class()  # fail before an hour of reading, not after it
    reader = cached_reader(registry.load_proxy(proxy, bench.MAX_LAYERS))
    folder = readings_folder(cache)
    cases: dict[str, list[Any]] = {}
    with record_bars() as progress:
        for name, path in files.items():
            rows, _ = load_gold_records(path, limit, seed)
            report = add_bar(progress, name, len(rows))
            cases[name] = list(bench.read_sink_cases(reader, rows, folder, report))
    found = bench.compare_treatments(cases, shares, counter_of("proxy", proxy), seed)
    if as_json:
        facts = {"command": ["tamis", *sys.argv[1:]], **environment_facts(), "sets": found}
        typer.echo(json.dumps(facts))
    else:
        for name, of in found.items():
            make_console().print(_table(name, of))
    if out:
        draw_sinks(found, f"{shares[-1]:g}", out)
        typer.echo(f"wrote {out}", err=True)


def _table(name: str, found: dict[str, Any]) -> Table:
    """A row per treatment and mix of heads, with the lead of raw attention's plain mean."""
    table = Table(
        title=f"{name}: {found['records']} questions; per cent of gold sentences kept; in brackets "
        "the 95 % interval of what raw attention's mean of heads keeps more",
        title_justify="left",
    )
    table.add_column("way", no_wrap=True)
    for budget in next(iter(found["methods"].values()))["budgets"]:
        table.add_column(budget, justify="right", no_wrap=True)
    for way, of in found["methods"].items():
        table.add_row(way, *map(_cell, of["budgets"].values()))
    return table


def _cell(cell: dict[str, Any]) -> str:
    ahead = cell.get("reference_gold_ahead")
    shown = f"{100 * cell['gold_kept']:.1f}"
    return f"{shown} [{100 * ahead['low']:.1f}, {100 * ahead['high']:.1f}]" if ahead else shown
