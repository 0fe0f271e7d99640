"""The best passages at both ends of the prompt, the worst in the middle.

Source: "Lost in the Middle" (Liu et al., arXiv 2307.03172): models use the beginning and the end of
a prompt best. The order itself is common practice ("long-context reorder"), not the paper's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.method import MethodInfo, OrderingMethod, at_both_ends, best_first
from tamis.text.types import Passage


class Edges(OrderingMethod):
    """Puts the best passage first, the second best last, and so on inwards."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "best passages at both ends", "after Lost in the Middle, arXiv 2307.03172", kind="ordering"
    )

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Ranks 0 2 4 … 5 3 1."""
        return tuple(at_both_ends(best_first(scores)))


Method = Edges
