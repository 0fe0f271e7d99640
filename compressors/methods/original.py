"""Passages in the order of the input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.method import MethodInfo, OrderingMethod
from tamis.text.types import Passage


class Original(OrderingMethod):
    """Changes nothing."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "passages as they came", "the caller's order", kind="ordering"
    )

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """0, 1, 2, …"""
        return tuple(range(len(passages)))


Method = Original
