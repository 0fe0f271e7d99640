"""How far attention over the keys that were found is from attention over all keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tamis_lab.datasets.statistics import rank_correlations
from tamis_lab.methods.kv_search.types import KeyHits

LEAST_UNITS = 3
"""Units of a passage, from which on their order is compared."""


@dataclass(frozen=True, slots=True)
class UnitSpans:
    """The units that keys belong to.

    Attributes:
        owner: the number of each key's unit, `[N]`, ascending from 0 without a gap.
        passages: the units of each passage, half-open: `[P, 2]`.
    """

    owner: Tensor
    passages: Tensor

    @classmethod
    def from_numbers(cls, units: Tensor, passages: Tensor) -> UnitSpans:
        """From the unit and the passage of each key, both ascending: `[N]` each."""
        both = torch.stack((passages, units), 1)
        first, owner = torch.unique_consecutive(both, dim=0, return_inverse=True)
        counts = torch.unique_consecutive(first[:, 0], return_counts=True)[1]
        ends = counts.cumsum(0)
        return cls(owner, torch.stack((ends - counts, ends), 1))

    def sums(self, weights: Tensor, ids: Tensor | None = None) -> Tensor:
        """The weight of each unit's keys: `[Q, C]` to `[Q, U]`.

        Args:
            ids: of the keys, `[Q, C]`, -1 for none; None for all keys in order.
        """
        found = weights.new_zeros(len(weights), int(self.owner[-1]) + 1)
        if ids is None:
            return found.index_add(1, self.owner, weights)
        return found.scatter_add(1, self.owner[ids.clamp_min(0)], weights)

    def masses(self, sums: Tensor, questions: Tensor) -> Tensor:
        """The mean weight of each unit's keys by the mean row of each question: `[B, U]`.

        Args:
            sums: `[Q, U]`. questions: the question of each row, `[Q]`.
        """
        asked = torch.unique_consecutive(questions, return_inverse=True)[1]
        rows = sums / asked.bincount()[asked][:, None]
        found = sums.new_zeros(int(asked.max()) + 1, sums.shape[1]).index_add(0, asked, rows)
        return found / self.owner.bincount()

    def rank_correlation(self, masses: Tensor, exact: Tensor) -> float | None:
        """Spearman's rank correlation of the units of the passage that each question attends to
        most, the mean over questions; None where no such passage has three units.

        Args:
            masses, exact: `[B, U]`.
        """
        found = []
        for own, due in zip(masses, exact, strict=True):
            sums = [float(due[a:b].sum()) for a, b in self.passages.tolist()]
            start, stop = self.passages[sums.index(max(sums))].tolist()
            if stop - start >= LEAST_UNITS:
                found += rank_correlations(own[None, start:stop], due[None, start:stop])
        return sum(found) / len(found) if found else None


def hit_weights(hits: KeyHits) -> Tensor:
    """The softmax over the hits, 0 where there was none: `[Q, k]`."""
    return hits.scores.softmax(1).masked_fill(hits.ids < 0, 0)


def best_of(hits: KeyHits, k: int) -> KeyHits:
    """The best k hits alone."""
    return KeyHits(hits.scores[:, :k], hits.ids[:, :k], hits.keys_read, hits.mass)


def output_error(hits: KeyHits, values: Tensor, exact: Tensor) -> float:
    """The distance of attention over the hits from that over all keys, relative to its length.

    Where a selector says what mass its keys have, the rest goes to the mean of all values.

    Args:
        values: `[N, d]`. exact: `[Q, d]`.
    """
    weights = exact.new_zeros(len(exact), len(values))
    weights.scatter_add_(1, hits.ids.clamp_min(0), hit_weights(hits))
    outputs = weights @ values
    if hits.mass is not None:
        mass = hits.mass[:, None]
        outputs = mass * outputs + (1 - mass) * values.mean(0)
    error = (outputs - exact).norm(dim=1) / exact.norm(dim=1).clamp_min(1e-6)
    return float(error.mean())
