"""Several rankings of one corpus made one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

FusionRule = Literal["standard", "ranks"]
RANK_OFFSET = 60
"""k of reciprocal rank fusion, as its authors set it."""
RANK_DEPTH = 100
ScoreArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


def top_indexes(scores: ScoreArray, allowed: Mask, k: int) -> NDArray[Any]:
    """Indexes of the k best allowed scores, best first; of equals the earlier one first."""
    masked = np.where(allowed, scores, -np.inf)
    k = min(k, int(allowed.sum()))
    if k == 0:
        return np.zeros(0, np.int64)
    edge = np.partition(masked, len(masked) - k)[len(masked) - k]
    found = np.flatnonzero(masked >= edge)
    return found[np.argsort(-masked[found], kind="stable")][:k]


def fuse_standard_scores(legs: Mapping[str, ScoreArray], live: Mask, weights: Mapping[str, float]) -> ScoreArray:
    """The weighted sum of each leg's standard scores: `[C]`.

    Args:
        legs: scores of every chunk, one array a leg; equal scores throughout add nothing.
        live: the chunks that mean and deviation are taken over.
        weights: of each leg; 1 where none is given.
    """
    fused = np.zeros(len(live), np.float32)
    for name, scores in legs.items():
        of = scores[live]
        if len(of) and (spread := of.std()) > 0:
            fused += np.float32(weights.get(name, 1.0)) * (scores - of.mean()) / spread
    return fused


def fuse_reciprocal_ranks(
    legs: Mapping[str, ScoreArray], allowed: Mask, depth: int, weights: Mapping[str, float]
) -> ScoreArray:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): `[C]`, 0 for what no leg found.

    Args:
        depth: how far down each leg is read; a leg's scores of 0 are no finds.
    """
    fused = np.zeros(len(allowed), np.float32)
    for name, scores in legs.items():
        found = top_indexes(scores, allowed & (scores != 0), depth)
        fused[found] += weights.get(name, 1.0) / (RANK_OFFSET + 1 + np.arange(len(found)))
    return fused
