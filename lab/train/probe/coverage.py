"""Coverage: how low the gold of held-out questions scores, and how much evidence is then kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.compressors.features.second_step import (
    ENCODER,
    isolated_probabilities,
    unit_probabilities,
)
from tamis.probes.probing.linear import LinearProbe, conformal_threshold
from tamis_lab.datasets.records import record_id
from tamis_lab.train.probe.figures import case_probabilities, scores_of
from tamis_lab.train.probe.labelled_readings import LabelledReading

COVERAGE_TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SPLITS = 200
_MIN_QUESTIONS = 10
"""Of a domain that may count as the hardest one."""
_USUAL_COVERAGE = 0.9
Floats = NDArray[np.float64]


def coverage_weights(probe: LinearProbe, cases: Sequence[LabelledReading]) -> dict[str, Tensor]:
    """The lowest probability of each question's gold units, ascending, `[questions]` each.

    `lowest` is of the probabilities by all features, `encoder_lowest` of those with an encoder,
    `alone_lowest` of those by a unit's own. Names ending in `_hardest` have the questions of one
    domain: the one whose evidence scores lowest.
    """
    kinds: dict[str, Callable[[LabelledReading], Tensor]] = {
        "lowest": lambda case: case_probabilities(probe, case),
        "alone_lowest": lambda case: isolated_probabilities(probe, case.isolated),
    }
    if f"{ENCODER}levels" in probe.weights and all(case.cosines is not None for case in cases):
        kinds[f"{ENCODER}lowest"] = lambda case: unit_probabilities(
            probe, scores_of(probe, case, with_cosines=True), ENCODER
        )
    found: dict[str, Tensor] = {}
    for name, probabilities in kinds.items():
        by_domain: dict[str, list[float]] = {}
        for case in cases:
            lowest = _lowest_gold_probability(probabilities(case), case)
            by_domain.setdefault(case.domain, []).append(lowest)
        found[name] = torch.tensor([p for of in by_domain.values() for p in of]).sort().values
        many = [torch.tensor(of) for of in by_domain.values() if len(of) >= _MIN_QUESTIONS]
        if len(many) > 1:
            hardest = min(many, key=lambda of: conformal_threshold(of, _USUAL_COVERAGE))
            found[f"{name}_hardest"] = hardest.sort().values
    return found


def _lowest_gold_probability(p: Tensor, case: LabelledReading) -> float:
    return float(p[case.gold].min())


def coverage_figures(
    probe: LinearProbe,
    cases: Sequence[LabelledReading],
    targets: Sequence[float] = COVERAGE_TARGETS,
) -> dict[str, dict[str, float]]:
    """The coverage reached for each target and its cost, on questions that set no threshold.

    Questions are split in two by article, many times over: one half sets the threshold, the other
    is measured. `se` is the standard error of a share over as many questions as there are;
    `tokens` is the share of tokens kept.
    """
    if len({_article(case) for case in cases}) < 2:
        return {}
    units = _ScoredUnits.score(probe, cases)
    chance = np.random.default_rng(0)
    halves = [_draw_half(cases, chance) for _ in range(_SPLITS)]
    return {str(target): _reached_over_halves(target, units, halves) for target in targets}


@dataclass(frozen=True, slots=True)
class _ScoredUnits:
    """The units of all questions, end to end.

    Attributes:
        p: probability of each unit, `[U]`. tokens: of each, `[U]`. case: its question, `[U]`.
        lowest: the lowest probability of each question's gold, `[questions]`.
    """

    p: Floats
    tokens: Floats
    case: NDArray[np.int64]
    lowest: Floats

    @classmethod
    def score(cls, probe: LinearProbe, cases: Sequence[LabelledReading]) -> _ScoredUnits:
        p = [case_probabilities(probe, case) for case in cases]
        return cls(
            torch.cat(p).double().numpy(),
            np.concatenate([np.array(case.tokens, dtype=np.float64) for case in cases]),
            np.repeat(np.arange(len(cases)), [len(case.tokens) for case in cases]),
            np.array(
                [_lowest_gold_probability(each, case) for each, case in zip(p, cases, strict=True)]
            ),
        )

    def kept_token_shares(self, threshold: float) -> Floats:
        """The share of each question's tokens in units from the threshold up, `[questions]`."""
        kept = np.bincount(self.case, self.tokens * (self.p >= threshold))
        return np.asarray(kept / np.bincount(self.case, self.tokens))


def reached_coverage(
    probe: LinearProbe,
    cases: Sequence[LabelledReading],
    targets: Sequence[float] = COVERAGE_TARGETS,
) -> dict[str, dict[str, dict[str, float]]]:
    """The coverage that the probe's own thresholds reach on each file, and what they cost.

    Files unlike those the probe was calibrated on may fall short: its coverage is not about them.
    """
    if "lowest" not in probe.weights:
        return {}
    sets: dict[str, list[LabelledReading]] = {}
    for case in cases:
        sets.setdefault(case.source, []).append(case)
    return {
        name: {str(target): _reached_by_threshold(probe, own, target) for target in targets}
        for name, own in sets.items()
    }


def _reached_by_threshold(
    probe: LinearProbe, cases: Sequence[LabelledReading], target: float
) -> dict[str, float]:
    threshold = conformal_threshold(probe.weights["lowest"], target)
    units = _ScoredUnits.score(probe, cases)
    whole, tokens = units.lowest >= threshold, units.kept_token_shares(threshold)
    return _coverage_row(float(whole.mean()), float(tokens.mean()), len(cases))


def _coverage_row(reached: float, tokens: float, questions: int) -> dict[str, float]:
    error = (reached * (1 - reached) / questions) ** 0.5
    return {"reached": round(reached, 4), "se": round(error, 4), "tokens": round(tokens, 4)}


def _article(case: LabelledReading) -> str:
    docs = case.record["docs"]
    return str(
        next((d.get("title") for d in docs if d.get("gold")), None) or record_id(case.record)
    )


def _draw_half(cases: Sequence[LabelledReading], chance: np.random.Generator) -> NDArray[np.bool_]:
    """Which questions set the threshold, `[questions]`: those on half of the articles."""
    articles = sorted({_article(case) for case in cases})
    drawn = set(chance.permutation(articles)[: (len(articles) + 1) // 2].tolist())
    return np.array([_article(case) in drawn for case in cases])


def _reached_over_halves(
    target: float, units: _ScoredUnits, halves: Sequence[NDArray[np.bool_]]
) -> dict[str, float]:
    whole, tokens = [], []
    for calibrating in halves:
        threshold = conformal_threshold(torch.from_numpy(units.lowest[calibrating]), target)
        whole.append((units.lowest[~calibrating] >= threshold).mean())
        tokens.append(units.kept_token_shares(threshold)[~calibrating].mean())
    threshold = conformal_threshold(torch.from_numpy(units.lowest), target)
    found = _coverage_row(float(np.mean(whole)), float(np.mean(tokens)), len(units.lowest))
    return found | {"threshold": round(threshold, 6)}
