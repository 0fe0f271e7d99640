"""`bench places`: the same questions with their evidence first, in the middle and last."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import (
    SHARP,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.probe_options import readings_folder

EPILOG = """
**Examples**

`tamis lab bench places hotpotqa.jsonl.gz --limit 200`

`tamis lab bench places xquad_en.jsonl.gz --joined --methods question_rows,sentinel --budgets
0.1,0.2`

Spread is the largest less the smallest of the three shares. Its interval cannot reach below 0: what
counts is its upper end. With `--joined` the documents of a question are one long document.
"""


@report_errors()
def places(
    records: Annotated[
        Path, typer.Argument(help="Labelled records, JSON Lines, optionally gzipped.")
    ],
    methods: Annotated[
        str, typer.Option("--methods", "--method", help="Names of methods, with commas.")
    ] = DEFAULT,
    budgets: Budgets = "0.1,0.2",
    limit: Annotated[int, typer.Option(min=1, help="Records, from all over the file.")] = 200,
    joined: Annotated[
        bool, typer.Option("--joined", help="Make one document of each record's.")
    ] = False,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    as_json: AsJson = False,
) -> None:
    """Gold sentences kept by where the evidence stands, and how far the places lie apart.

    Sets of single short passages get distractors, as in `tamis lab bench evidence`.
    """
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.evidence.panel import build_panel
    from tamis_lab.bench.evidence.places import movable_records, sweep_places
    from tamis_lab.bench.evidence.tally import environment_facts, load_gold_records

    shares, names = parse_budgets(budgets), parse_list(methods, "methods")
    found, distractors = load_gold_records(records, None, seed)
    rows = movable_records(found)
    rows = [rows[i * len(rows) // limit] for i in range(limit)] if limit < len(rows) else rows
    models = build_panel(names, proxy, readings_folder(cache))
    counter = counter_of("proxy", proxy)
    with record_bars() as progress:
        report = add_bar(progress, records.name, len(rows))
        figures = sweep_places(rows, models.panel, shares, counter, joined, report, seed)
    facts = {
        "command": ["tamis", *sys.argv[1:]],
        "records": len(rows),
        "distractors": distractors,
        "joined": joined,
        "proxies": list(models.proxies),
        **environment_facts(),
        "methods": figures,
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    make_console().print(_table(figures, len(rows), joined))


def _table(figures: Mapping[str, Mapping[str, Any]], questions: int, joined: bool) -> Table:
    """A row per method and budget: per cent of gold kept in each place, and the spread."""
    form = "documents joined to one" if joined else "documents apart"
    table = Table(
        title=f"{questions} questions, {form}: per cent of gold sentences kept, by where the "
        "evidence stands; [95 % interval]",
        title_justify="left",
    )
    table.add_column("method", no_wrap=True)
    for column in ("budget", "first", "middle", "last", "spread", "first - last"):
        table.add_column(column, justify="right", no_wrap=True)
    for method, of in figures.items():
        for budget, cell in of.items():
            kept = (f"{100 * share:.1f}" for share in cell["gold_kept"].values())
            ends = cell["differences"]["first - last"]
            spread = _interval(cell["spread"], "value")
            table.add_row(method, budget, *kept, spread, _interval(ends, "difference"))
    return table


def _interval(of: Mapping[str, float], name: str) -> str:
    return f"{100 * of[name]:.1f} [{100 * of['low']:.1f}, {100 * of['high']:.1f}]"
