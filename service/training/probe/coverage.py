"""Coverage: how low the gold of held-out questions scores, and whether the promise then holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.compressors.features.coverage import conformal_threshold
from tamis.compressors.methods.question_rows import isolated_probabilities
from tamis.probes.probing.linear import LinearProbe
from tamis.service.datasets.records import id_of
from tamis.service.training.probe.labelled_readings import Case
from tamis.service.training.probe.figures import judged

ASKED = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
_SPLITS = 200
Floats = NDArray[np.float64]


def promised(probe: LinearProbe, cases: Sequence[Case]) -> dict[str, Tensor]:
    """Per question the lowest probability of its gold, ascending: with all that is known, alone."""
    together = [_lowest(judged(probe, case), case) for case in cases]
    alone = [_lowest(isolated_probabilities(probe, case.lone), case) for case in cases]
    return {
        "lowest": torch.tensor(together).sort().values,
        "alone_lowest": torch.tensor(alone).sort().values,
    }


def _lowest(p: Tensor, case: Case) -> float:
    return float(p[case.gold].min())


def coverage_figures(
    probe: LinearProbe, cases: Sequence[Case], asked: Sequence[float] = ASKED
) -> dict[str, dict[str, float]]:
    """What coverage is reached and what it costs, on halves of the cases that were not calibrated.

    Cases are split in two by article, many times over: one half sets the threshold, the other
    judges. `se` is the standard error of a share over as many questions as there are; `tokens` is
    the share of tokens kept.
    """
    if len({_article(case) for case in cases}) < 2:
        return {}
    seen = _Judged.of(probe, cases)
    chance = np.random.default_rng(0)
    halves = [_half(cases, chance) for _ in range(_SPLITS)]
    return {str(ask): _reached(ask, seen, halves) for ask in asked}


@dataclass(frozen=True, slots=True)
class _Judged:
    """Cases end to end: probabilities and tokens of all units, and whose they are."""

    p: Floats
    tokens: Floats
    case: NDArray[np.int64]
    lowest: Floats

    @classmethod
    def of(cls, probe: LinearProbe, cases: Sequence[Case]) -> _Judged:
        p = [judged(probe, case) for case in cases]
        return cls(
            torch.cat(p).double().numpy(),
            np.concatenate([np.array(case.tokens, dtype=np.float64) for case in cases]),
            np.repeat(np.arange(len(cases)), [len(case.tokens) for case in cases]),
            np.array([_lowest(each, case) for each, case in zip(p, cases, strict=True)]),
        )

    def shares(self, threshold: float) -> Floats:
        """Of each case, the share of its tokens from the threshold up."""
        kept = np.bincount(self.case, self.tokens * (self.p >= threshold))
        return np.asarray(kept / np.bincount(self.case, self.tokens))


def kept_promises(
    probe: LinearProbe, cases: Sequence[Case], asked: Sequence[float] = ASKED
) -> dict[str, dict[str, dict[str, float]]]:
    """What the probe's own thresholds reach on each set of these cases, and what they cost.

    Sets unlike those the probe was calibrated on may fall short: the promise is not about them.
    """
    if "lowest" not in probe.weights:
        return {}
    sets: dict[str, list[Case]] = {}
    for case in cases:
        sets.setdefault(case.source, []).append(case)
    return {
        name: {str(ask): _kept_promise(probe, own, ask) for ask in asked}
        for name, own in sets.items()
    }


def _kept_promise(probe: LinearProbe, cases: Sequence[Case], ask: float) -> dict[str, float]:
    threshold = conformal_threshold(probe.weights["lowest"], ask)
    seen = _Judged.of(probe, cases)
    whole, tokens = seen.lowest >= threshold, seen.shares(threshold)
    return _rounded(float(whole.mean()), float(tokens.mean()), len(cases))


def _rounded(reached: float, tokens: float, questions: int) -> dict[str, float]:
    error = (reached * (1 - reached) / questions) ** 0.5
    return {"reached": round(reached, 4), "se": round(error, 4), "tokens": round(tokens, 4)}


def _article(case: Case) -> str:
    docs = case.record["docs"]
    return str(next((d.get("title") for d in docs if d.get("gold")), None) or id_of(case.record))


def _half(cases: Sequence[Case], chance: np.random.Generator) -> NDArray[np.bool_]:
    """Which cases calibrate: half of the articles."""
    articles = sorted({_article(case) for case in cases})
    drawn = set(chance.permutation(articles)[: (len(articles) + 1) // 2].tolist())
    return np.array([_article(case) in drawn for case in cases])


def _reached(ask: float, seen: _Judged, halves: Sequence[NDArray[np.bool_]]) -> dict[str, float]:
    whole, tokens = [], []
    for calibrating in halves:
        threshold = conformal_threshold(torch.from_numpy(seen.lowest[calibrating]), ask)
        whole.append((seen.lowest[~calibrating] >= threshold).mean())
        tokens.append(seen.shares(threshold)[~calibrating].mean())
    threshold = conformal_threshold(torch.from_numpy(seen.lowest), ask)
    found = _rounded(float(np.mean(whole)), float(np.mean(tokens)), len(seen.lowest))
    return found | {"threshold": round(threshold, 6)}
