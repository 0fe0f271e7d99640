"""A 22M cross-encoder made here: all-MiniLM-L6-v2 with adapters that ship with tamis.

Question and passage are read in one input, so each token of one sees the other (Nogueira & Cho
2019, arXiv 1901.04085). Learnt by regression on a teacher's scores of pairs, with a softmax over
the graded passages of a question beside it (the first is the recipe of the Ettin rerankers, 2026):
lab/log/ranking.md#2026-11-29-a-cross-encoder-made-here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Self

from tamis.compressors.features.bm25 import visible_texts, whole_texts
from tamis.compressors.features.shipped_probes import weights_file
from tamis.compressors.method import MethodInfo, ModelSource, ScoringMethod, best_unit_scores
from tamis.compressors.types import Ranks, Scores
from tamis.probes.model.cross_encoder import CrossEncoder, CrossWeights
from tamis.probes.text import Passage, Unit

BASE = "minilm-l6"
"""The sentence encoder that the shipped adapters were trained from."""


class Cross(ScoringMethod):
    """The probability that a document, or a unit by itself, answers the question."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "a 22M cross-encoder: question and document in one input",
        "Nogueira & Cho, arXiv 1901.04085; weights made here",
        "encoder",
    )

    encoder: CrossEncoder

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """The method with the sentence encoder of this machine and the adapters that ship.

        Raises:
            ProxyMissing: the encoder is not on this machine.
            ProbeMismatch: it is another one than the adapters were trained from.
        """
        return cls(models.encoder().cross_encoder(shipped_cross_weights()), **options)

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One probability a unit, read by itself; a passage ranks by its best unit."""
        if not units:
            return Scores((), (0.0,) * len(passages))
        clock = time.perf_counter()
        values = self._probabilities(question, visible_texts(passages, units))
        best = best_unit_scores(values, units, len(passages))
        return Scores(values, best, calibrated=True, timings_ms=_read_ms(clock))

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """One probability a whole passage with its title; units are not scored."""
        clock = time.perf_counter()
        values = self._probabilities(question, whole_texts(passages))
        return Ranks(values, calibrated=True, timings_ms=_read_ms(clock))

    def _probabilities(self, question: str, texts: Sequence[str]) -> tuple[float, ...]:
        return tuple(self.encoder.score(question, texts).sigmoid().tolist())


def _read_ms(clock: float) -> dict[str, float]:
    return {"read": (time.perf_counter() - clock) * 1e3}


@lru_cache(maxsize=1)
def shipped_cross_weights() -> CrossWeights:
    """The adapters that ship with tamis."""
    path: Path = weights_file("cross", BASE)
    return CrossWeights.load(path)


Method = Cross
