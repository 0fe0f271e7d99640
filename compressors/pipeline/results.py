"""A compression seen passage by passage: what was kept of each, its score and its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tamis.compressors.rules import Rules
from tamis.compressors.selection.rendering import Renderer
from tamis.compressors.types import Compressed
from tamis.probes.text import Passage
from tamis.probes.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class PassageResult:
    """One passage and what was kept of it.

    Attributes:
        score: for ranking; None where nothing was scored.
        units: indices of its units. kept: those that stayed.
        text: the kept ones as rendered; tokens are counted on it, and on all of them likewise.
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
        """How people know it."""
        return self.passage.id or self.passage.title or f"document {self.index + 1}"


def per_passage(result: Compressed, rules: Rules, counter: TextTokenizer) -> list[PassageResult]:
    """One `Source` a passage, in the order of the input."""
    sheet = Renderer(result.passages, result.units, rules)
    units: list[list[int]] = [[] for _ in result.passages]
    for u, unit in enumerate(result.units):
        units[unit.passage].append(u)
    held = {kept.unit for kept in result.kept}
    kept = [[u for u in mine if u in held] for mine in units]
    texts = [sheet.text(mine) for mine in kept]
    before = counter.count_many([sheet.text(mine) for mine in units])
    scores: Sequence[float | None] = result.passage_scores or [None] * len(units)
    after = counter.count_many(texts)
    return [
        PassageResult(
            p, passage, scores[p], tuple(units[p]), tuple(kept[p]), texts[p], before[p], after[p]
        )
        for p, passage in enumerate(result.passages)
    ]
