"""`tamis lab bench depth`: the fewest layers and the fewest heads that keep the evidence.

How few layers and heads keep the evidence? All cuts are taken from one full reading.

    training readings ─ heads of a cut ─ fit as `probe train` does ─► its own probe ─┐
    judged readings ─── heads of a cut ──────────────────────────────────────────────┴─► gold kept

The attention of a layer does not depend on later layers, so the first columns of a full reading are
the reading of a shallower model. Cases are those of `bench evidence`; its stored readings are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import typer
from rich.table import Table
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.features.second_step import (
    RequestTexts,
    first_features,
    unit_probabilities,
    unit_scores,
)
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis_lab.bench.evidence import BudgetOutcome, EvidenceTally, tally_sets
from tamis_lab.bench.panel import Panel
from tamis_lab.bench.speed import count_linear_weights
from tamis_lab.bench.study import Study, ends, heading, table
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader, store_key
from tamis_lab.datasets.record_files import RecordFile, ReportProgress, describe_file
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.datasets.statistics import DRAWS, paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart
from tamis_lab.train.probe.fitting import fit_steps, probe_card, split_held_out
from tamis_lab.train.probe.labelled_readings import LabelledReading, RecordReader

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
    data: shared.Data,
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
    budgets: shared.Budgets = "0.1,0.2",
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
) -> None:
    """Gold sentences lost by reading fewer layers, or fewer heads, each with a probe of its own."""
    study = Study(as_json, plot)
    depths, counts = shared.parse_sizes(exits, "exits"), shared.parse_sizes(heads, "heads")
    shares, files = (
        shared.parse_budgets(budgets),
        [shared.parse_record_file(name) for name in judge],
    )
    sources = [shared.parse_record_file(name) for name in data]
    sources += [replace(shared.parse_record_file(name), articles=True) for name in articles or ()]
    if len({file.name for file in files}) < len(files):
        raise BadInput("--judge has two files of one name; figures go by name, so rename one")
    loaded, counter = registry.load_proxy(proxy, max(depths)), counter_of("proxy", proxy)
    check_cuts(loaded, depths, counts)
    method, folder = full_reading_method(loaded, max(depths)), shared.readings_folder(cache)
    with study.bars():
        cases, card = read_training_cases(method, loaded, sources, folder, study.report)
        probes = fit_cuts(cases, card, depths, counts, study.report)
        panel = CutPanel(method, CaseReadings(folder, store_key(method)), probes)
        tallies = tally_sets(files, panel, shares, counter, seed, study)
    cuts = [each.cut for each in probes]
    weights = {cut.depth: count_linear_weights(loaded, cut.depth) for cut in cuts}
    questions = sum(len(of.gold) for of in tallies.values())
    rows = cut_figures(tallies, cuts, weights, seed)
    facts = {
        "seed": seed,
        "proxy": {"name": card.model, "revision": card.revision, "template": card.template},
        "trained_on": card.trained_on,
        "fitted_on": len(cases),
        "questions": questions,
        "sets": {
            file.name: describe_file(file, len(tallies[file.name].gold))
            | {
                "gold_sentences": sum(tallies[file.name].gold),
                "distractors": tallies[file.name].distractors,
            }
            for file in files
        },
        "cuts": rows,
        "verdict": verdict(rows, questions),
    }
    study.publish(facts, lambda: [*_tables(facts), facts["verdict"]], lambda: depth_charts(rows))


def _tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """All sets pooled, with savings and whether each cut is within the limit; then one a set."""
    rows = found["cuts"]
    heads = ("cut", *(each for b in rows[0]["budgets"] for each in (f"at {heading(b)}", "lost")))
    yield table(
        f"all sets, {found['questions']} questions: per cent of gold sentences kept; lost [95 %]",
        (*heads, "layers", "saved", f"within {MAX_LOST_SHARE:g}"),
        (
            [
                row["cut"],
                *loss_cells(row["budgets"]),
                str(row["layers"]),
                f"{row['saved']:.0%}",
                "yes" if row["within"] else "no",
            ]
            for row in rows
        ),
    )
    for name, of in found["sets"].items():
        title = f"{name}: {of['questions']} questions, {of['gold_sentences']} gold sentences"
        yield table(title, heads, ([r["cut"], *loss_cells(r["sets"][name])] for r in rows))


def loss_cells(budgets: Mapping[str, Mapping[str, float]], with_kept: bool = True) -> Iterator[str]:
    """Per cent of gold kept at each budget, and the points lost with their interval."""
    for cell in budgets.values():
        if with_kept:
            yield f"{100 * cell['gold_kept']:.1f}"
        yield f"{100 * cell['lost']:.1f} {ends(cell)}"


def depth_charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Points lost with their interval, a line a budget: by layers, and by heads."""
    found = []
    for kind, across in (("exit", "layers"), ("heads", "heads")):
        own = [row for row in rows if row["kind"] == kind]
        lines = {}
        for budget in rows[0]["budgets"]:
            cells = [row["budgets"][budget] for row in own]
            below = [100 * (cell["lost"] - cell["low"]) for cell in cells]
            above = [100 * (cell["high"] - cell["lost"]) for cell in cells]
            lost = [100 * cell["lost"] for cell in cells]
            lines[f"at {heading(budget)}"] = ([row[across] for row in own], lost, [below, above])
        found.append(Chart("", lines, f"{across} read", f"gold lost against {rows[0]['cut']}"))
    return found


def losses(
    counts: EvidenceTally, base: str, name: str, seed: int, draws: int = DRAWS
) -> dict[str, dict[str, float]]:
    """By budget: the gold that one keeps, and how much more the base does, with its interval."""
    cells = {}
    for budget, outcome in counts.outcomes[name].items():
        full = counts.outcomes[base][budget].gold_kept
        kept = {"gold_kept": sum(outcome.gold_kept) / sum(counts.gold)}
        cells[f"{budget:g}"] = kept | paired_interval(
            full, outcome.gold_kept, counts.gold, draws, seed, name="lost"
        )
    return cells


@dataclass(frozen=True, slots=True)
class HeadCut:
    """Some of the heads of a reading of L layers with H heads each.

    Attributes:
        kind: `exit`, all heads of the first layers, or `heads`, some of all heads.
        heads: indices among the `L·H` heads, layer by layer, ascending.
        depth: how many layers must run for them.
    """

    kind: Literal["exit", "heads"]
    heads: tuple[int, ...]
    depth: int

    @property
    def name(self) -> str:
        """The cut's name in tables."""
        return f"exit {self.depth}" if self.kind == "exit" else f"{len(self.heads)} heads"


@dataclass(frozen=True, slots=True)
class FittedCut:
    """A cut and the probe fitted to it.

    Attributes:
        columns: the features of a full reading that it keeps, in the first step.
    """

    cut: HeadCut
    columns: Tensor
    probe: LinearProbe

    def probabilities(self, texts: RequestTexts, first: Tensor) -> tuple[float, ...]:
        """How likely each of U units is to answer.

        Args:
            first: features of a full reading, `[U, 2·L·H + words]`.
        """
        z, _ = unit_scores(self.probe, texts, first[:, self.columns])
        return tuple(unit_probabilities(self.probe, z).tolist())


def exit_cuts(depths: Sequence[int], heads: int) -> list[HeadCut]:
    """Cuts with all heads of the first layers, deepest first; a layer has `heads`."""
    descending = sorted(set(depths), reverse=True)
    return [HeadCut("exit", tuple(range(depth * heads)), depth) for depth in descending]


def strongest_head_cuts(counts: Sequence[int], sizes: Tensor, heads: int) -> list[HeadCut]:
    """Cuts with the heads of largest size `[L·H]`, most heads first; a layer has `heads`."""
    order = sizes.argsort(descending=True, stable=True).tolist()
    best = [tuple(sorted(order[:count])) for count in sorted(set(counts), reverse=True)]
    return [HeadCut("heads", of, of[-1] // heads + 1) for of in best]


def cut_columns(cut: HeadCut, total: int, others: int = len(WORD_FEATURES)) -> Tensor:
    """A cut's columns of a full reading's features: means, maxima, and what follows them.

    Args:
        total: `L·H`. others: how many features follow those of heads.
    """
    heads = torch.tensor(cut.heads)
    return torch.cat([heads, heads + total, torch.arange(2 * total, 2 * total + others)])


def fit_cut(cut: HeadCut, cases: Sequence[LabelledReading], card: ProbeCard) -> FittedCut:
    """Fits a cut's probe to the columns of the cases that the cut keeps.

    Args:
        cases: with the features of the full reading. card: of a probe for the full reading.
    """
    total = card.layers * card.heads
    columns, isolated = cut_columns(cut, total), cut_columns(cut, total, 1)
    kept = [
        replace(case, first=case.first[:, columns], isolated=case.isolated[:, isolated])
        for case in cases
    ]
    weights = fit_steps(kept).weights
    # of fewer heads than the card has: `unit_scores` looks at sizes alone
    return FittedCut(cut, columns, LinearProbe(weights, replace(card, layers=cut.depth)))


def head_sizes(full: FittedCut, cases: Sequence[LabelledReading]) -> Tensor:
    """How much each head changes the score of the full fit: `[L·H]`.

    For each head, the norm of weight times standard deviation over its mean and its maximum:
    columns differ in spread, so weights alone are not comparable. The second step depends on heads
    through the score of the first step only.
    """
    spread = torch.cat([case.first for case in cases]).std(0)
    effects = full.probe.weights["first"] * spread[full.columns]
    mean_and_maximum = effects[: 2 * len(full.cut.heads)].view(2, -1)
    return mean_and_maximum.square().sum(0).sqrt()


def fit_cuts(
    cases: Sequence[LabelledReading],
    card: ProbeCard,
    depths: Sequence[int],
    counts: Sequence[int],
    report: ReportProgress,
) -> list[FittedCut]:
    """Fits the full reading, shallower exits, then fewer heads of the full reading.

    Args:
        cases: to fit on. card: of a probe for the deepest exit, which is the full reading.
        depths: numbers of layers. counts: numbers of heads.
        report: called after each fit.
    """
    fitted: list[FittedCut] = []
    total = len(set(depths)) + len(set(counts))

    def add(cuts: Sequence[HeadCut]) -> None:
        for cut in cuts:
            fitted.append(fit_cut(cut, cases, card))
            report("fits", len(fitted), total)

    add(exit_cuts(depths, card.heads))
    add(strongest_head_cuts(counts, head_sizes(fitted[0], cases), card.heads))
    return fitted


class CutPanel(Panel):
    """All cuts over one stored reading of each case, each scored by its own probe."""

    def __init__(
        self, method: QuestionRows, readings: CaseReadings, probes: Sequence[FittedCut]
    ) -> None:
        super().__init__([each.cut.name for each in probes], {})
        self.method, self.readings, self.probes = method, readings, probes

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> dict[str, TimedScores]:
        """Every cut's scores of one case; the time is that of the full reading."""
        reading = self.readings.get_or_read(question, passages, units, self.method.read)
        texts = RequestTexts.of(question, passages, units, reading.tokens)
        first = first_features(reading, question, texts.lexicon)
        scored = {}
        for each in self.probes:
            values = each.probabilities(texts, first)
            scores = Scores(values, best_unit_scores(values, units, len(passages)), True)
            scored[each.cut.name] = TimedScores(scores, sum(reading.timings_ms.values()), True)
        return scored


def check_cuts(proxy: Proxy, depths: Sequence[int], counts: Sequence[int]) -> None:
    """Checks depths and numbers of heads against the proxy.

    Raises:
        BadInput: an exit is deeper than the proxy, or a number of heads leaves none out.
    """
    layers, most = max(depths), max(counts)
    if layers > proxy.depth:
        raise BadInput(
            f"exits has {layers} and {proxy.card.name} has {proxy.depth} layers; give fewer"
        )
    if most >= layers * proxy.card.heads:
        raise BadInput(
            f"heads has {most} and {layers} layers have {layers * proxy.card.heads}; give fewer"
        )


def full_reading_method(proxy: Proxy, layers: int) -> QuestionRows:
    """The method that reads the cases: so many layers, and no probe."""
    return QuestionRows.for_fit(cached_reader(proxy), layers)


def read_training_cases(
    method: QuestionRows,
    proxy: Proxy,
    files: Sequence[RecordFile],
    folder: Path,
    report: ReportProgress,
) -> tuple[list[LabelledReading], ProbeCard]:
    """The cases to fit on, as `probe train` chooses them, and the card of a probe for all heads.

    Raises:
        BadInput: the files have too little to learn from.
    """
    cases = list(RecordReader(method, folder).read_answerable(files, report))
    fit_on, _ = split_held_out(cases)
    return fit_on, probe_card(proxy, method.layers, files, cases)


MAX_LOST_SHARE = 0.01
"""The share of gold sentences that a cut may lose, at the upper end of the interval."""
VERDICT_QUESTIONS = 1_500
"""With fewer questions, an interval is too wide for a verdict."""


def pool_tallies(tallies: Mapping[str, EvidenceTally]) -> EvidenceTally:
    """All sets as one: every question weighs as many gold sentences as it has."""
    each = list(tallies.values())
    total = EvidenceTally(max(counts.distractors for counts in each))
    total.gold = [gold for counts in each for gold in counts.gold]
    for name, by_budget in each[0].outcomes.items():
        total.outcomes[name] = {
            budget: BudgetOutcome(
                [kept for counts in each for kept in counts.outcomes[name][budget].gold_kept]
            )
            for budget in by_budget
        }
    return total


def cut_figures(
    tallies: Mapping[str, EvidenceTally],
    cuts: Sequence[HeadCut],
    weights: Mapping[int, int],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """One row per cut, as JSON; the first is the full reading, which the others are compared with.

    Args:
        weights: how many linear weights a token is multiplied with, by number of layers.
    """
    total, full = pool_tallies(tallies), cuts[0]
    rows = []
    for cut in cuts:
        cells = losses(total, full.name, cut.name, seed, draws)
        rows.append(
            {
                "cut": cut.name,
                "kind": cut.kind,
                "layers": cut.depth,
                "heads": len(cut.heads),
                "saved": 1 - weights[cut.depth] / weights[full.depth],
                "within": all(cell["high"] <= MAX_LOST_SHARE for cell in cells.values()),
                "budgets": cells,
                "sets": {
                    name: losses(counts, full.name, cut.name, seed, draws)
                    for name, counts in tallies.items()
                },
            }
        )
    return rows


def verdict(rows: Sequence[Mapping[str, Any]], questions: int) -> str:
    """A line with the shallowest exit and the fewest heads that lose at most `MAX_LOST_SHARE`."""
    full, *cuts = rows
    exits = [row for row in cuts if row["within"] and row["kind"] == "exit"]
    heads = [row for row in cuts if row["within"] and row["kind"] == "heads"]
    shallowest = min(exits, key=lambda row: int(row["layers"]), default=None)
    fewest = min(heads, key=lambda row: int(row["heads"]), default=None)
    text = (
        f"Within {MAX_LOST_SHARE:g} of {full['cut']} over {questions:,} questions: "
        f"{_describe_cut(shallowest) if shallowest else 'no shallower exit'}; "
        f"{_describe_cut(fewest) if fewest else 'no smaller number of heads'}."
    )
    if questions >= VERDICT_QUESTIONS:
        return text
    return f"{text} A verdict takes {VERDICT_QUESTIONS:,} questions."


def _describe_cut(row: Mapping[str, Any]) -> str:
    depth = f", {row['layers']} layers deep" if row["kind"] == "heads" else ""
    return f"{row['cut']}{depth} ({row['saved']:.0%} of the arithmetic saved)"
