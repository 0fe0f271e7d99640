"""The baseline: the first sentences of every passage, then the second ones, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.method import MethodInfo, ScoringMethod
from tamis.compressors.types import Scores
from tamis.text.types import Passage, Unit


class Lead(ScoringMethod):
    """Every passage's first unit before any second; the question is not read."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "the first sentences of every passage; ignores the question", "the usual floor"
    )

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """1, 1/2, 1/3, ... by a unit's place in its passage; passages keep their order."""
        count = [0] * len(passages)
        values = []
        for unit in units:
            count[unit.passage] += 1
            values.append(1 / count[unit.passage])
        return Scores(tuple(values), tuple(1 / (p + 1) for p in range(len(passages))))


Method = Lead
