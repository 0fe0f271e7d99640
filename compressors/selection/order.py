"""The order in which passages are shown: orders by score alone, and ordering methods by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tamis.compressors.method import Orderer

OrdererFactory = Callable[[str], Orderer]
"""Builds the ordering method of a name."""


def best_first(scores: Sequence[float]) -> list[int]:
    """Indexes by falling score; ties keep their order."""
    return sorted(range(len(scores)), key=lambda p: (-scores[p], p))


def at_both_ends(ranked: Sequence[int]) -> list[int]:
    """The best two at the ends, the worst in the middle: 0 2 4 .. 5 3 1."""
    return [*ranked[::2], *ranked[1::2][::-1]]
