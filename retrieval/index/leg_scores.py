"""The scores of the legs of a search, and their fusion into one ranking."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.storage.postings import Mask, ScoreArray


@dataclass(frozen=True, slots=True)
class LegScores:
    """The scores of a leg, and their distribution over all live chunks.

    Attributes:
        values: `[C]`; those of chunks that are not known say nothing.
        mean, spread: mean and standard deviation over the live chunks, estimated where some are
            not known.
        known: `[C]` bool, the chunks that were scored; None for all.
        keys_read: how many keys and centroids each query vector was compared with, on average.
    """

    values: ScoreArray
    mean: float
    spread: float
    known: Mask | None = None
    keys_read: int = 0


def complete_scores(values: ScoreArray, live: Mask, keys_read: int = 0) -> LegScores:
    """The scores of a leg that scored every chunk."""
    if not live.any():
        return LegScores(values, 0.0, 0.0, None, keys_read)
    own = values[live]
    return LegScores(values, own.mean(), own.std(), None, keys_read)


def partial_scores(
    values: ScoreArray, live: Mask, chosen: Mask, drawn: Mask, keys_read: int
) -> LegScores:
    """The scores of a leg that scored some chunks, with mean and spread of all estimated.

    Args:
        chosen: `[C]`, the chunks that were scored because they promised much.
        drawn: `[C]`, those that were scored whatever they promise; all that are not chosen are
            taken to be like those of them that are not chosen.
    """
    known = chosen | drawn
    own, others = values[live & chosen].astype(np.float64), values[live & drawn & ~chosen]
    total, rest = int(live.sum()), int((live & ~chosen).sum())
    if not total:
        return LegScores(values, 0.0, 0.0, known, keys_read)
    sums = [
        (own**power).sum()
        + (rest * (others.astype(np.float64) ** power).mean() if len(others) else 0)
        for power in (1, 2)
    ]
    mean = sums[0] / total
    spread = max(0.0, sums[1] / total - mean * mean) ** 0.5
    return LegScores(values, mean, spread, known, keys_read)


FusionRule = Literal["standard", "ranks"]
RANK_OFFSET = 60
"""k of reciprocal rank fusion, as its authors set it."""
RANK_DEPTH = 100
"""How many of each leg's best chunks get a rank, at least."""


def top_indexes(scores: ScoreArray, allowed: Mask, k: int) -> NDArray[Any]:
    """Indexes of the k best allowed scores, best first; equal scores in the order of the array."""
    masked = np.where(allowed, scores, -np.inf)
    k = min(k, int(allowed.sum()))
    if k == 0:
        return np.zeros(0, np.int64)
    lowest = np.partition(masked, len(masked) - k)[len(masked) - k]
    candidates = np.flatnonzero(masked >= lowest)
    return candidates[np.argsort(-masked[candidates], kind="stable")][:k]


def fuse_standard_scores(legs: Mapping[str, LegScores], weights: Mapping[str, float]) -> ScoreArray:
    """The weighted sum of each leg's standard scores: `[C]`.

    Args:
        legs: at least one; a leg whose scores are all equal adds nothing.
        weights: of each leg; 1 where none is given.
    """
    fused = np.zeros_like(next(iter(legs.values())).values)
    for name, leg in legs.items():
        if leg.spread > 0:
            fused += np.float32(weights.get(name, 1.0)) * (leg.values - leg.mean) / leg.spread
    return fused


def fuse_reciprocal_ranks(
    legs: Mapping[str, ScoreArray], allowed: Mask, depth: int, weights: Mapping[str, float]
) -> ScoreArray:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): `[C]`, 0 for what no leg found.

    Args:
        allowed: the chunks that ranks are counted among.
        depth: how many of each leg's best chunks count; a score of 0 means that the leg did not
            find the chunk.
    """
    fused = np.zeros(len(allowed), np.float32)
    for name, scores in legs.items():
        ranked = top_indexes(scores, allowed & (scores != 0), depth)
        fused[ranked] += weights.get(name, 1.0) / (RANK_OFFSET + 1 + np.arange(len(ranked)))
    return fused
