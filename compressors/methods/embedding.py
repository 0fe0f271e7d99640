"""Sentence cosine: the baseline to beat.

A sentence encoder (by default all-MiniLM-L6-v2, Wang et al. 2020, trained by Reimers & Gurevych)
embeds question and sentences; a sentence scores by the cosine with the question.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from tamis.compressors.features.bm25 import visible_texts, whole_texts
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.options import option
from tamis.compressors.types import Ranks, Scores
from tamis.probes.model.encoder import Encoder
from tamis.probes.pooling import DEFAULT_POOLING
from tamis.text.types import Passage, Unit


class Embedding(ScoringMethod):
    """Cosine between the question and each unit."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "sentence cosine by a 22M encoder", "all-MiniLM-L6-v2", "encoder"
    )

    encoder: Encoder
    pooling: str = option(
        DEFAULT_POOLING,
        "How token states become a vector: mean, as the encoder was trained, or another file of "
        "probes/poolings.",
    )

    def setup(self) -> None:
        """Has the encoder pool as asked.

        Raises:
            BadInput: there is no such pooling.
        """
        if self.pooling != DEFAULT_POOLING:
            self.encoder = self.encoder.with_pooling(self.pooling)

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One cosine per unit; a passage ranks by its best unit."""
        if not units:
            return Scores((), (0.0,) * len(passages))
        clock = time.perf_counter()
        vectors = self.encoder.encode([question, *visible_texts(passages, units)])
        values = tuple((vectors[1:] @ vectors[0]).tolist())
        timings = {"read": (time.perf_counter() - clock) * 1e3}
        return Scores(values, best_unit_scores(values, units, len(passages)), timings_ms=timings)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """One cosine a whole passage with its title; units are not scored."""
        clock = time.perf_counter()
        vectors = self.encoder.encode([question, *whole_texts(passages)])
        values = tuple((vectors[1:] @ vectors[0]).tolist())
        return Ranks(values, timings_ms={"read": (time.perf_counter() - clock) * 1e3})


Method = Embedding
