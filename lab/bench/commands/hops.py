"""`tamis lab bench hops`: compares ways of reading on questions that chain facts."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.bench_options import (
    SHARP,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    parse_budgets,
    parse_list,
)
from tamis_lab.options.output_files import check_targets, write_json
from tamis_lab.options.probe_options import parse_record_file, readings_folder

if TYPE_CHECKING:
    from tamis_lab.datasets.record_files import RecordFile

EPILOG = """
**Examples**

`tamis lab bench hops --train hotpotqa.jsonl.gz:100 --train squad2.jsonl.gz:60 --judge
dev.jsonl:100`

`tamis lab bench hops --train mine.jsonl:200 --judge held.jsonl --ways again1,again2 --json
hops.json`

Every way has a probe of its own, fitted on the same training questions. What survives the first
reading of a training question is said by weights that never saw its article. Readings are kept, so
that a run which was cut short goes on. One thread; ms are of the run that read.
"""


@report_errors()
def hops(
    train: Annotated[
        list[str], typer.Option("--train", metavar="FILE[:LIMIT]", help="To fit on; repeatable.")
    ],
    judge: Annotated[
        list[str], typer.Option("--judge", metavar="FILE[:LIMIT]", help="To judge by; repeatable.")
    ],
    ways: Annotated[
        str, typer.Option(help="Compared with `alone`; with commas.")
    ] = "again1,again2,packs,whole,shared,shares",
    budgets: Budgets = "0.1,0.2",
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write all figures here.")
    ] = None,
) -> None:
    """Read passages alone, twice, in packs, or all at once: evidence kept, ms, tokens read.

    Sets of single short passages get distractors, as in `tamis lab bench evidence`.
    """
    from tamis.compressors import registry
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.attention.hops import compare_ways
    from tamis_lab.bench.attention.hops_readings import one_thread
    from tamis_lab.bench.attention.hops_ways import WayReader, order_ways
    from tamis_lab.bench.evidence.panel import proxy_facts
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.datasets.reading_store import cached_reader

    check_targets(json_file)
    names, shares = order_ways(parse_list(ways, "ways")), parse_budgets(budgets)
    fit_on, judge_by = _parse_files(train, judge)
    layers = registry.layers_needed(registry.DEFAULT, proxy)
    reader = cached_reader(registry.load_proxy(proxy, layers))
    way_reader = WayReader(reader, layers or reader.card.layers, readings_folder(cache))
    counter = counter_of("proxy", proxy)
    with one_thread(), file_bars() as bar:
        facts = {
            "command": ["tamis", *sys.argv[1:]],
            "proxy": proxy_facts(reader),
            **environment_facts(),
        }
        facts |= compare_ways(way_reader, names, fit_on, judge_by, shares, counter, bar, seed)
    for name, of in facts["sets"].items():
        make_console().print(_table(name, of))
    if json_file:
        write_json(facts, json_file)


def _parse_files(
    train: Sequence[str], judge: Sequence[str]
) -> tuple[list[RecordFile], list[RecordFile]]:
    """The files to fit on, and those to evaluate on.

    Raises:
        BadInput: a file or a name is given twice.
    """
    fit_on, judge_by = (
        [parse_record_file(name) for name in train],
        [parse_record_file(name) for name in judge],
    )
    _check_unique([str(source.path.resolve()) for source in (*fit_on, *judge_by)])
    for sources in (fit_on, judge_by):
        _check_unique([source.name for source in sources])
    return fit_on, judge_by


def _check_unique(names: Sequence[str]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise BadInput(
            f"{repeated[0]} is given {names.count(repeated[0])} times; figures are by name, and "
            "what weights were fitted on says nothing about them: give each file once"
        )


def _table(name: str, found: Mapping[str, Any]) -> Table:
    """A row per way: gold kept, questions with all of it, the gain over `alone`, and costs."""
    omitted = f", {found['too_long']} left out as too long" if found["too_long"] else ""
    table = Table(
        title=f"{name}: {found['questions']} questions{omitted}; per cent of gold sentences kept, "
        "and of questions that keep all; in brackets the 95 % interval of the gain over `alone`",
        title_justify="left",
    )
    table.add_column("way", no_wrap=True)
    for budget in found["ways"]["alone"]["budgets"]:
        table.add_column(f"{budget} gold", justify="right", no_wrap=True)
        table.add_column(f"{budget} all", justify="right", no_wrap=True)
    table.add_column("ms", justify="right")
    table.add_column("tokens read", justify="right")
    for way, of in found["ways"].items():
        cells = (
            _cell(cell, kind) for cell in of["budgets"].values() for kind in ("gold", "all_gold")
        )
        table.add_row(way, *cells, f"{of['median_ms']:.0f}", f"{of['mean_tokens_read']:.0f}")
    return table


def _cell(cell: Mapping[str, Any], kind: str) -> str:
    over, shown = cell.get(f"{kind}_over_alone"), f"{100 * cell[f'{kind}_kept']:.1f}"
    return f"{shown} [{100 * over['low']:+.1f}, {100 * over['high']:+.1f}]" if over else shown
