"""The scores of one leg: of every chunk, or of those that an approximate search read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
