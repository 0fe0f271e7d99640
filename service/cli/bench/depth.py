"""`tamis bench depth`: the shallowest exit and the fewest heads that keep the evidence."""

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
from tamis.service.cli.display.console import screen
from tamis.service.cli.display.errors import reported
from tamis.service.cli.options.bench_common import (
    SHARP,
    ProxyName,
    Readings,
    Seed,
    Shares,
    budgets_of,
    check_images,
    listed,
)
from tamis.service.cli.options.options import AsJson
from tamis.service.cli.options.probe_common import file_bars, readings, source_of

if TYPE_CHECKING:
    from tamis.service.evaluation.evidence.evidence import Tally
    from tamis.service.training.probe import Source

EPILOG = """
**Examples**

`tamis bench depth --data train/hotpotqa.jsonl.gz --judge dev/hotpotqa.jsonl.gz`

`tamis bench depth --data squad2.jsonl.gz:600 --judge xquad_en.jsonl.gz --exits 12,16,20 --heads 60`

The deepest exit is the full reading; it is read once, and every other cut is fitted to a part of
it. What was read by `tamis probe train` and `tamis bench evidence` with the same proxy and as many
layers is not read again. A cut is within .01 if the upper end of what it loses is, at every budget.
"""


@reported()
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
        typer.Option("--articles", help="To fit on, joined as in `tamis probe train`. Repeatable."),
    ] = None,
    exits: Annotated[
        str, typer.Option(help="Layers to read, with commas; the most is the full reading.")
    ] = "10,12,14,16,18,20",
    heads: Annotated[
        str, typer.Option(help="How many of the full reading's heads to keep, with commas.")
    ] = "90,60,30,16,8",
    budgets: Shares = "0.1,0.2",
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    cache: Readings = None,
    as_json: AsJson = False,
    png: Annotated[Path | None, typer.Option("--png", help="Also draw what is lost.")] = None,
) -> None:
    """Gold sentences lost by reading fewer layers, or fewer heads, each with a probe of its own."""
    from tamis.service.evaluation.attention.depth_figures import verdict
    from tamis.service.evaluation.attention.depth_plot import draw
    from tamis.service.evaluation.evidence.evidence import surroundings

    check_images(png)
    depths, counts = _numbers(exits, "exits"), _numbers(heads, "heads")
    shares, files = budgets_of(budgets), [source_of(name) for name in judge]
    sources = [source_of(name) for name in data]
    sources += [replace(source_of(name), articles=True) for name in articles or ()]
    if len({file.name for file in files}) < len(files):
        raise BadInput("--judge has two files of one name; figures go by name, so rename one")
    found = _measured(sources, files, depths, counts, shares, seed, proxy, readings(cache))
    facts = {"command": ["tamis", *sys.argv[1:]], "seed": seed, **surroundings(), **found}
    facts["verdict"] = verdict(found["cuts"], found["questions"])
    if as_json:
        typer.echo(json.dumps(facts))
    else:
        for table in _tables(found):
            screen().print(table)
        typer.echo(facts["verdict"])
    if png:
        draw(found["cuts"], png)
        typer.echo(f"wrote {png}", err=True)


def _numbers(given: str, what: str) -> list[int]:
    """Whole numbers from a list with commas. BadInput: one that is none."""
    words = listed(given, what)
    if wrong := [word for word in words if not word.isdecimal() or int(word) < 1]:
        raise BadInput(f"{what} has {wrong[0]!r}; give whole numbers of at least 1, with commas")
    return [int(word) for word in words]


def _measured(
    sources: list[Source],
    files: list[Source],
    depths: list[int],
    counts: list[int],
    budgets: list[float],
    seed: int,
    proxy: str,
    folder: Path,
) -> dict[str, Any]:
    """Reads, fits and judges, with a bar for each; figures as JSON."""
    from tamis.compressors.registry import load_proxy
    from tamis.service.api.compress import counter_of
    from tamis.service.datasets.case_readings import Looks
    from tamis.service.evaluation.attention import depth as bench
    from tamis.service.evaluation.attention.depth_figures import figures
    from tamis.service.evaluation.speed.speed import linear_weights
    from tamis.service.training.probe import look_key

    loaded, counter = load_proxy(proxy, max(depths)), counter_of("proxy", proxy)
    bench.check(loaded, depths, counts)
    method = bench.full_reading(loaded, max(depths))
    with file_bars() as report:
        cases, card = bench.learnt(method, loaded, sources, folder, report)
        probes = bench.fits(cases, card, depths, counts, report)
        panel = bench.Cuts(method, Looks(folder, look_key(method)), probes)
        tallies = bench.judged(files, panel, budgets, counter, seed, report)
    cuts = [each.cut for each in probes]
    weights = {cut.depth: linear_weights(loaded, cut.depth) for cut in cuts}
    return {
        "proxy": {"name": card.model, "revision": card.revision, "template": card.template},
        "trained_on": card.trained_on,
        "fitted_on": len(cases),
        "questions": sum(len(of.gold) for of in tallies.values()),
        "sets": {file.name: _described(file, tallies[file.name]) for file in files},
        "cuts": figures(tallies, cuts, weights, seed),
    }


def _described(file: Source, counts: Tally) -> dict[str, Any]:
    from tamis.service.training.probe import described

    sizes: dict[str, Any] = {"gold_sentences": sum(counts.gold), "distractors": counts.distractors}
    return described(file, len(counts.gold)) | sizes


def _tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """All questions pooled, with what is saved and the verdict on each cut; then each set."""
    from tamis.service.evaluation.attention.depth_figures import LOST

    rows = found["cuts"]
    title = (
        f"all sets, {found['questions']} questions: per cent of gold sentences kept; lost [95 %]"
    )
    pooled = _table(title, rows[0]["budgets"])
    for column in ("layers", "saved", f"within {LOST:g}"):
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
    """Per cent of gold kept by a cut, then points lost, at each budget."""
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
