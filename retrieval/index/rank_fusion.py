"""Fuses several rankings of one corpus into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.index.leg_scores import LegScores
from tamis.retrieval.storage.postings import Mask, ScoreArray

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
