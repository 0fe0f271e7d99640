"""How few layers and heads keep the evidence? All cuts are taken from one full reading.

    training readings ─ heads of a cut ─ fit as `probe train` does ─► its own probe ─┐
    judged readings ─── heads of a cut ──────────────────────────────────────────────┴─► gold kept

The attention of a layer does not depend on later layers, so the first columns of a full reading are
the reading of a shallower model. Cases are those of `bench evidence`; its stored readings are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

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
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.evidence.panel import Panel
from tamis_lab.bench.evidence.tally import (
    EvidenceTally,
    load_gold_records,
    record_progress,
    tally_evidence,
)
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader
from tamis_lab.datasets.record_files import RecordFile, ReportProgress
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.train.probe.fitting import fit_steps, probe_card, split_held_out
from tamis_lab.train.probe.labelled_readings import LabelledReading, RecordReader


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


def tally_cuts(
    files: Sequence[RecordFile],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    seed: int,
    report: ReportProgress,
) -> Mapping[str, EvidenceTally]:
    """The evidence of each file that each cut keeps.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        counter: the tokenizer of the budget.
        seed: of the distractors that single passages get.
    """
    tallies = {}
    for file in files:
        rows, distractors = load_gold_records(file.path, file.limit, seed)
        progress = record_progress(report, f"{file.name}, judged", len(rows))
        tallies[file.name] = tally_evidence(rows, panel, budgets, counter, distractors, progress)
    return tallies
