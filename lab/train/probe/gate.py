"""Fits the gate: what deeper layers would say, from shallower ones and words, and at what loss.

readings of whole requests ─► ridge regression of deep features on shallow ones and on words
                           └► the same requests as if read in stages: evidence lost, layers saved

No gold label has a part in the fit; gold says what stages lose, on domains that the fit never saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.gate import PURPOSES, Gate, Stage, WindowJudge
from tamis.compressors.features.second_step import unit_scores
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import WINDOW_TOKENS
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis_lab.datasets.records import passages_of, request_units
from tamis_lab.train.probe.figures import fill_token_share
from tamis_lab.train.probe.labelled_readings import LabelledReading

RIDGE = 3.0
"""The ridge, in units of standardised features."""
_WORDS = len(WORD_FEATURES)


def fit_gate(
    cases: Sequence[LabelledReading], card: ProbeCard, stages: Mapping[str, Sequence[Stage]]
) -> LinearProbe:
    """A gate with the estimates that its stages need.

    Args:
        cases: readings of `card.layers` layers. stages: for each of `PURPOSES`.
    """
    weights = {
        f"stages_{purpose}": torch.tensor(
            [[s.depth, s.margin, s.least, s.floor] for s in stages.get(purpose, ())]
        ).reshape(-1, 4)
        for purpose in PURPOSES
    }
    depths = {stage.depth for each in stages.values() for stage in each}
    for depth in sorted(depth for depth in depths if depth < card.layers):
        weights[f"layers_from_{depth}"] = fit_estimate(cases, card, depth)
    return LinearProbe(weights, card)


def fit_estimate(cases: Sequence[LabelledReading], card: ProbeCard, depth: int) -> Tensor:
    """The regression of the layers from `depth` on: `[2·l·H + W + 1, 2·(L - l)·H]`, bias last."""
    given = 2 * depth * card.heads + _WORDS
    moments = torch.zeros(given + 1, given + 1, dtype=torch.float64)
    products = torch.zeros(given + 1, 2 * (card.layers - depth) * card.heads, dtype=torch.float64)
    for case in cases:
        layers = by_layer(case, card)
        known = torch.cat([layers[:, :, :depth].flatten(1), case.first[:, -_WORDS:]], 1)
        known = torch.cat([known, torch.ones(len(known), 1)], 1).double()
        moments += known.T @ known
        products += known.T @ layers[:, :, depth:].flatten(1).double()
    # variance of each column: the ridge then means the same for heads and for words
    mean = moments[-1] / moments[-1, -1]
    variance = (moments.diagonal() / moments[-1, -1] - mean**2).clamp_min(1e-8)
    ridge = RIDGE * variance
    ridge[-1] = 0
    solved: Tensor = torch.linalg.solve(moments + ridge.diag(), products)
    return solved.float()


def by_layer(case: LabelledReading, card: ProbeCard) -> Tensor:
    """The features of a case's heads: `[U, 2, L, H]`."""
    return case.first[:, :-_WORDS].view(len(case.gold), 2, card.layers, card.heads)


@dataclass(frozen=True, slots=True)
class StagedCase:
    """A case as if it had been read in stages.

    Attributes:
        features: `[U, 2·L·H]`. whole: the units read to the end, `[U]` bool.
        cost: the share of tokens times layers that ran.
    """

    features: Tensor
    whole: Tensor
    cost: float


def read_case_in_stages(
    case: LabelledReading, gate: Gate, stages: Sequence[Stage], method: QuestionRows, purpose: str
) -> StagedCase:
    """A case that was read whole, as reading in stages would have left it."""
    card = gate.probe.card
    layers, window = by_layer(case, card), torch.tensor(list(_window_numbers(case)))
    assert method.probe is not None
    judge = WindowJudge(
        *(method.probe, purpose, case.record["question"], passages_of(case.record)),
        *(request_units(case.record), case.tokens),
    )
    words = judge.words(case.tokens)
    live = torch.ones(int(window.max()) + 1, dtype=torch.bool)
    depths = torch.zeros(len(live), dtype=torch.int64)
    for stage in (stage for stage in stages if len(live) >= stage.least):
        depths[live] = stage.depth
        features = _complete(gate, layers, words, depths[window])
        scores = judge.scores(features, words, slice(0, len(window)))
        best = torch.full((len(live),), -torch.inf).scatter_reduce(0, window, scores, "amax")
        is_last = stage.depth >= card.layers
        settled, judged = (live, ~live) if is_last else (torch.zeros_like(live), live)
        live = stage.choose(best, settled, judged, purpose == "isolated")
    depths[live] = card.layers
    depths = depths[window]
    tokens = torch.tensor(case.tokens, dtype=torch.float64)
    cost = float((tokens * depths).sum() / (tokens.sum() * card.layers))
    return StagedCase(_complete(gate, layers, words, depths), live[window], cost)


def _complete(gate: Gate, layers: Tensor, words: Tensor, depths: Tensor) -> Tensor:
    features = layers.flatten(1).clone()
    for depth in sorted(set(depths.tolist())):
        rows = depths == depth
        features[rows] = gate.complete(layers[rows][:, :, :depth], words[rows])
    return features


def _window_numbers(case: LabelledReading) -> Iterator[int]:
    """The window of each unit, as far as the tokens of the units tell."""
    number, size, passage = -1, 0, -1
    for unit, tokens in zip(request_units(case.record), case.tokens, strict=True):
        if unit.passage != passage or size + tokens > WINDOW_TOKENS:
            number, size, passage = number + 1, 0, unit.passage
        size += tokens
        yield number


def evidence_kept(
    case: LabelledReading, probe: LinearProbe, features: Tensor, whole: Tensor, share: float
) -> int:
    """How many gold units are kept at a share of the tokens, scored with an encoder if there is."""
    cosines = case.cosines
    if cosines is not None:
        cosines = torch.where(whole, cosines, torch.nan)
    first = torch.cat([features, case.first[:, -_WORDS:]], 1)
    scores, _ = unit_scores(probe, case.texts, first, cosines)
    return int(case.gold[fill_token_share(scores, case.tokens, share)].sum())


def gate_figures(
    cases: Sequence[LabelledReading],
    card: ProbeCard,
    stages: Sequence[Stage],
    method: QuestionRows,
    shares: Sequence[float],
) -> dict[str, dict[str, Any]]:
    """By domain, judged by a fit without it: the evidence lost at each share, and the cost.

    Evidence lost is a share of the gold units; below 0 means that more was kept. `cost` is the
    share of tokens times layers that ran.
    """
    assert method.probe is not None
    found = {}
    for domain in sorted({case.domain for case in cases}):
        others = [case for case in cases if case.domain != domain] or cases
        gate, mine = (
            Gate(fit_gate(others, card, {"units": stages})),
            [case for case in cases if case.domain == domain],
        )
        lost, costs = dict.fromkeys(shares, 0), []
        for case in mine:
            staged = read_case_in_stages(case, gate, stages, method, "units")
            costs.append(staged.cost)
            everything = torch.ones(len(case.gold), dtype=torch.bool)
            for share in shares:
                plain = by_layer(case, card).flatten(1)
                lost[share] += evidence_kept(case, method.probe, plain, everything, share)
                lost[share] -= evidence_kept(
                    case, method.probe, staged.features, staged.whole, share
                )
        gold = sum(int(case.gold.sum()) for case in mine)
        found[domain] = {
            "questions": len(mine),
            "gold": gold,
            "cost": round(sum(costs) / len(costs), 4),
            "lost": {f"{share:g}": round(lost[share] / gold, 4) for share in shares},
        }
    return found
