"""A compression seen passage by passage: what was kept of each, its score and its tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tamis.compressors.rules import Rules
from tamis.compressors.selection.rendering import Renderer
from tamis.compressors.types import Compressed, to_probability
from tamis.probes.text import Passage
from tamis.probes.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class PassageResult:
    """One passage and what was kept of it.

    Attributes:
        score: for ranking; None where nothing was scored.
        units: indices of its units. kept: those that stayed.
        text: the kept units as rendered. tokens_before: of all units, rendered likewise.
    """

    index: int
    passage: Passage
    score: float | None
    units: tuple[int, ...]
    kept: tuple[int, ...]
    text: str
    tokens_before: int
    tokens_after: int

    @property
    def label(self) -> str:
        """What to call the passage in a table: its id, its title, or its place."""
        return self.passage.id or self.passage.title or f"document {self.index + 1}"

    @property
    def raw_score(self) -> float | None:
        """The method's own score; None where nothing was scored, and without units."""
        scored = self.units and self.score is not None and math.isfinite(self.score)
        return self.score if scored else None

    def relevance(self, calibrated: bool) -> float | None:
        """The score in [0, 1], 0 without units; None where nothing was scored.

        Args:
            calibrated: whether scores are probabilities.
        """
        if self.score is None:
            return None
        return to_probability(self.score, calibrated) if self.units else 0.0


def per_passage(result: Compressed, rules: Rules, counter: TextTokenizer) -> list[PassageResult]:
    """One result per passage, in the order of the input."""
    renderer = Renderer(result.passages, result.units, rules)
    units: list[list[int]] = [[] for _ in result.passages]
    for u, unit in enumerate(result.units):
        units[unit.passage].append(u)
    kept_units = {kept.unit for kept in result.kept}
    kept = [[u for u in mine if u in kept_units] for mine in units]
    texts = [renderer.text(mine) for mine in kept]
    before = counter.count_many([renderer.text(mine) for mine in units])
    scores: Sequence[float | None] = result.passage_scores or [None] * len(units)
    after = counter.count_many(texts)
    return [
        PassageResult(
            p, passage, scores[p], tuple(units[p]), tuple(kept[p]), texts[p], before[p], after[p]
        )
        for p, passage in enumerate(result.passages)
    ]
