"""In which order passages are shown: what an ordering method is, and orders by score alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tamis.compressors.method import Orderer

PLAIN = ("original", "score", "edges")
"""Orders that rendering makes by itself, from passage scores alone."""


Orderers = Callable[[str], Orderer]
"""The method of a name, ready to order."""


def best_first(scores: Sequence[float]) -> list[int]:
    """Indexes by falling score; ties keep the order they came in."""
    return sorted(range(len(scores)), key=lambda p: (-scores[p], p))


def at_both_ends(ranked: Sequence[int]) -> list[int]:
    """The best two at the ends, the worst in the middle: 0 2 4 .. 5 3 1."""
    return [*ranked[::2], *ranked[1::2][::-1]]
