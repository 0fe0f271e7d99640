"""How early may a reading stop, and how few heads does it take? One full reading answers for all.

    training readings ─ heads of a cut ─ fitted as `probe train` fits ─► its own probe ─┐
    judged readings ─── heads of a cut ─────────────────────────────────────────────────┴─► kept

No layer's attention depends on the layers after it, so the first columns of a full reading are the
reading of a shallower model. Cases are those of `bench evidence`, whose stored readings serve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from tamis.compressors.features.words import WORD_FEATURES, Lexicon
from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.question_rows import (
    QuestionRows,
    first_features,
    probabilities,
    second_step_scores,
)
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.datasets.case_readings import Looks, keeping
from tamis.service.datasets.score_sources import Seen
from tamis.service.evaluation.evidence.evidence import Tally, counted, records_of, tally
from tamis.service.evaluation.evidence.methods import Panel
from tamis.service.training.probe import Case, Report, Source, card_of, ordering, parted, read_cases


@dataclass(frozen=True, slots=True)
class Cut:
    """Some heads of a reading of L layers with H heads each.

    Attributes:
        kind: all heads of the first layers, or some of all heads.
        heads: places among the `L·H` heads, layer by layer, ascending.
        depth: layers that have to run for them.
    """

    kind: Literal["exit", "heads"]
    heads: tuple[int, ...]
    depth: int

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"exit {self.depth}" if self.kind == "exit" else f"{len(self.heads)} heads"


@dataclass(frozen=True, slots=True)
class Fitted:
    """A cut with the probe fitted to it; `columns` are those it leaves of a full reading's."""

    cut: Cut
    columns: Tensor
    probe: LinearProbe

    def probabilities(self, first: Tensor, lexicon: Lexicon) -> tuple[float, ...]:
        """That each of U units answers, from the full reading's `[U, 2·L·H + words]`."""
        z = second_step_scores(self.probe, first[:, self.columns], lexicon)
        return tuple(probabilities(self.probe, z).tolist())


def exits(depths: Sequence[int], heads: int) -> list[Cut]:
    """All heads of the first layers, deepest first; `heads` is how many a layer has."""
    falling = sorted(set(depths), reverse=True)
    return [Cut("exit", tuple(range(depth * heads)), depth) for depth in falling]


def strongest(counts: Sequence[int], sizes: Tensor, heads: int) -> list[Cut]:
    """The heads of largest size `[L·H]`, most heads first; `heads` is how many a layer has."""
    order = sizes.argsort(descending=True, stable=True).tolist()
    best = [tuple(sorted(order[:count])) for count in sorted(set(counts), reverse=True)]
    return [Cut("heads", of, of[-1] // heads + 1) for of in best]


def columns_of(cut: Cut, total: int) -> Tensor:
    """A cut's columns of the first step's features: means, maxima, words. `total` is `L·H`."""
    heads = torch.tensor(cut.heads)
    said = torch.arange(2 * total, 2 * total + len(WORD_FEATURES))
    return torch.cat([heads, heads + total, said])


def fitted(cut: Cut, cases: Sequence[Case], card: ProbeCard) -> Fitted:
    """A cut's probe, fitted to what the cut leaves of the cases.

    Args:
        cases: of the full reading. card: of a probe for the full reading.
    """
    columns = columns_of(cut, card.layers * card.heads)
    weights, _, _ = ordering([replace(case, first=case.first[:, columns]) for case in cases])
    return Fitted(cut, columns, LinearProbe(weights, replace(card, layers=cut.depth)))


def head_sizes(full: Fitted, cases: Sequence[Case]) -> Tensor:
    """How much each head moves the score of the full fit: `[L·H]`.

    The norm over its mean and its maximum of weight times spread: columns differ in spread, so bare
    weights do not compare. The second step sees heads through the first one's score alone.
    """
    spread = torch.cat([case.first for case in cases]).std(0)
    moved = full.probe.weights["first"] * spread[full.columns]
    both = moved[: 2 * len(full.cut.heads)].view(2, -1)
    return both.square().sum(0).sqrt()


def fits(
    cases: Sequence[Case],
    card: ProbeCard,
    depths: Sequence[int],
    counts: Sequence[int],
    report: Report,
) -> list[Fitted]:
    """The full reading, shallower exits, then fewer heads of the full reading.

    Args:
        cases: to fit on. card: of a probe for the deepest exit, which is the full reading.
        depths: in layers. counts: in heads.
        report: called after each fit.
    """
    found: list[Fitted] = []
    total = len(set(depths)) + len(set(counts))

    def add(cuts: Sequence[Cut]) -> None:
        for cut in cuts:
            found.append(fitted(cut, cases, card))
            report("fits", len(found), total)

    add(exits(depths, card.heads))
    add(strongest(counts, head_sizes(found[0], cases), card.heads))
    return found


class Cuts(Panel):
    """Every cut over the same stored reading, each judged by its own probe."""

    def __init__(self, method: QuestionRows, looks: Looks, probes: Sequence[Fitted]) -> None:
        super().__init__([each.cut.name for each in probes], {})
        self.method, self.looks, self.probes = method, looks, probes

    def see(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> dict[str, Seen]:
        """Every cut's scores of one case; the time is that of the full reading."""
        look = self.looks.get(question, passages, units, self.method.read)
        lexicon = Lexicon(question, passages, units)
        first = first_features(look, question, lexicon)
        seen = {}
        for each in self.probes:
            values = each.probabilities(first, lexicon)
            scores = Scores(values, best_unit_scores(values, units, len(passages)), True)
            seen[each.cut.name] = Seen(scores, sum(look.timings_ms.values()), True)
        return seen


def check(proxy: Proxy, depths: Sequence[int], counts: Sequence[int]) -> None:
    """Refuses what the proxy has not. BadInput: too deep an exit, or no head to leave out."""
    layers, most = max(depths), max(counts)
    if layers > proxy.depth:
        raise BadInput(
            f"exits has {layers} and {proxy.card.name} has {proxy.depth} layers; give fewer"
        )
    if most >= layers * proxy.card.heads:
        raise BadInput(
            f"heads has {most} and {layers} layers have {layers * proxy.card.heads}; give fewer"
        )


def full_reading(proxy: Proxy, layers: int) -> QuestionRows:
    """What reads the cases: so many layers, and no probe."""
    method = QuestionRows(keeping(proxy), probe=None)
    method.layers = layers
    return method


def learnt(
    method: QuestionRows, proxy: Proxy, sources: Sequence[Source], folder: Path, report: Report
) -> tuple[list[Case], ProbeCard]:
    """The cases to fit on, as `probe train` chooses them, and the card of a probe for all heads.

    Raises:
        BadInput: files without enough to learn from.
    """
    cases = list(read_cases(method, sources, folder, report))
    fitted_on, _ = parted(cases)
    return fitted_on, card_of(proxy, method.layers, sources, cases)


def judged(
    files: Sequence[Source],
    panel: Panel,
    budgets: Sequence[float],
    counter: Tokens,
    seed: int,
    report: Report,
) -> Mapping[str, Tally]:
    """What each cut keeps of the evidence of each file.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        counter: the tokenizer of the budget.
        seed: of the distractors that lone passages get.
    """
    found = {}
    for file in files:
        rows, distractors = records_of(file.path, file.limit, seed)
        bar = counted(report, f"{file.name}, judged", len(rows))
        found[file.name] = tally(rows, panel, budgets, counter, distractors, bar)
    return found
