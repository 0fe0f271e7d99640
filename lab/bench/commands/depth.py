"""`tamis lab bench depth`: the fewest layers and the fewest heads that keep the evidence."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import file_bars
from tamis_lab.options.bench_options import (
    SHARP,
    Budgets,
    ProxyName,
    ReadingsFolder,
    Seed,
    parse_budgets,
    parse_sizes,
)
from tamis_lab.options.output_files import check_images
from tamis_lab.options.probe_options import parse_record_file, readings_folder

if TYPE_CHECKING:
    from tamis_lab.bench.evidence.tally import EvidenceTally
    from tamis_lab.datasets.record_files import RecordFile

EPILOG = """
**Examples**

`tamis lab bench depth --data train/hotpotqa.jsonl.gz --judge dev/hotpotqa.jsonl.gz`

`tamis lab bench depth --data squad2.jsonl.gz:600 --judge xquad_en.jsonl.gz --exits 12,16,20
--heads 60`

The deepest exit is the full reading; it is read once, and every other cut is fitted to a part of
it. What was read by `tamis lab probe train` and `tamis lab bench evidence` with the same proxy and
as many layers is not read again. A cut is within .01 if the upper end of what it loses is, at
every budget.
"""


@report_errors()
def depth(
    data: Annotated[
        list[str],
        typer.Option("--data", help="To fit on: labelled JSONL, maybe as FILE:LIMIT. Repeatable."),
    ],
    judge: Annotated[
        list[str], typer.Option("--judge", help="To judge by: likewise, other files. Repeatable.")
    ],
    articles: Annotated[
        list[str] | None,
        typer.Option(
            "--articles", help="To fit on, joined as in `tamis lab probe train`. Repeatable."
        ),
    ] = None,
    exits: Annotated[
        str, typer.Option(help="Layers to read, with commas; the most is the full reading.")
    ] = "10,12,14,16,18,20",
    heads: Annotated[
        str, typer.Option(help="How many of the full reading's heads to keep, with commas.")
    ] = "90,60,30,16,8",
    budgets: Budgets = "0.1,0.2",
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: ReadingsFolder = None,
    as_json: AsJson = False,
    png: Annotated[Path | None, typer.Option("--png", help="Also draw what is lost.")] = None,
) -> None:
    """Gold sentences lost by reading fewer layers, or fewer heads, each with a probe of its own."""
    from tamis_lab.bench.attention.depth_figures import verdict
    from tamis_lab.bench.attention.depth_plot import draw_depth
    from tamis_lab.bench.evidence.tally import environment_facts

    check_images(png)
    depths, counts = parse_sizes(exits, "exits"), parse_sizes(heads, "heads")
    shares, files = parse_budgets(budgets), [parse_record_file(name) for name in judge]
    sources = [parse_record_file(name) for name in data]
    sources += [replace(parse_record_file(name), articles=True) for name in articles or ()]
    if len({file.name for file in files}) < len(files):
        raise BadInput("--judge has two files of one name; figures go by name, so rename one")
    found = _measure_cuts(
        sources, files, depths, counts, shares, seed, proxy, readings_folder(cache)
    )
    facts = {"command": ["tamis", *sys.argv[1:]], "seed": seed, **environment_facts(), **found}
    facts["verdict"] = verdict(found["cuts"], found["questions"])
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        for table in _tables(found):
            make_console().print(table)
        typer.echo(facts["verdict"])
    if png:
        draw_depth(found["cuts"], png)
        typer.echo(f"wrote {png}", err=True)


def _measure_cuts(
    sources: list[RecordFile],
    files: list[RecordFile],
    depths: list[int],
    counts: list[int],
    budgets: list[float],
    seed: int,
    proxy: str,
    folder: Path,
) -> dict[str, Any]:
    """Reads, fits and evaluates every cut, with a bar for each; the figures as JSON."""
    from tamis.compressors.registry import load_proxy
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.attention import depth as bench
    from tamis_lab.bench.attention.depth_figures import cut_figures
    from tamis_lab.bench.speed.timing import count_linear_weights
    from tamis_lab.datasets.reading_store import CaseReadings, store_key

    loaded, counter = load_proxy(proxy, max(depths)), counter_of("proxy", proxy)
    bench.check_cuts(loaded, depths, counts)
    method = bench.full_reading_method(loaded, max(depths))
    with file_bars() as report:
        cases, card = bench.read_training_cases(method, loaded, sources, folder, report)
        probes = bench.fit_cuts(cases, card, depths, counts, report)
        panel = bench.CutPanel(method, CaseReadings(folder, store_key(method)), probes)
        tallies = bench.tally_cuts(files, panel, budgets, counter, seed, report)
    cuts = [each.cut for each in probes]
    weights = {cut.depth: count_linear_weights(loaded, cut.depth) for cut in cuts}
    return {
        "proxy": {"name": card.model, "revision": card.revision, "template": card.template},
        "trained_on": card.trained_on,
        "fitted_on": len(cases),
        "questions": sum(len(of.gold) for of in tallies.values()),
        "sets": {file.name: _set_facts(file, tallies[file.name]) for file in files},
        "cuts": cut_figures(tallies, cuts, weights, seed),
    }


def _set_facts(file: RecordFile, counts: EvidenceTally) -> dict[str, Any]:
    from tamis_lab.datasets.record_files import describe_file

    sizes: dict[str, Any] = {"gold_sentences": sum(counts.gold), "distractors": counts.distractors}
    return describe_file(file, len(counts.gold)) | sizes


def _tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """A table of all sets pooled, with savings and the verdict on each cut; then one per set."""
    from tamis_lab.bench.attention.depth_figures import MAX_LOST_SHARE

    rows = found["cuts"]
    title = (
        f"all sets, {found['questions']} questions: per cent of gold sentences kept; lost [95 %]"
    )
    pooled = _table(title, rows[0]["budgets"])
    for column in ("layers", "saved", f"within {MAX_LOST_SHARE:g}"):
        pooled.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        sizes = (str(row["layers"]), f"{row['saved']:.0%}", "yes" if row["within"] else "no")
        pooled.add_row(row["cut"], *_cells(row["budgets"]), *sizes)
    yield pooled
    for name, of in found["sets"].items():
        title = f"{name}: {of['questions']} questions, {of['gold_sentences']} gold sentences"
        table = _table(title, rows[0]["budgets"])
        for row in rows:
            table.add_row(row["cut"], *_cells(row["sets"][name]))
        yield table


def _table(title: str, budgets: Iterable[str]) -> Table:
    """An empty table: per cent of gold kept by a cut, then points lost, at each budget."""
    table = Table(title=title, title_justify="left")
    table.add_column("cut", no_wrap=True)
    for budget in budgets:
        size = f"{float(budget):.0%}" if float(budget) <= 1 else f"{budget} tokens"
        table.add_column(f"at {size}", justify="right", no_wrap=True)
        table.add_column("lost", justify="right", no_wrap=True)
    return table


def _cells(budgets: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for cell in budgets.values():
        lost, low, high = (100 * cell[key] for key in ("lost", "low", "high"))
        yield f"{100 * cell['gold_kept']:.1f}"
        yield f"{lost:.1f} [{low:.1f}, {high:.1f}]"
