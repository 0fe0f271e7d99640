"""BM25 over sentences: the free baseline. The formula and its source: `features/bm25.py`."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.compressors.features.bm25 import Collection, visible_texts, whole_texts
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.types import Ranks, Scores
from tamis.text.terms import cached_words
from tamis.text.types import Passage, Unit


class Lexical(ScoringMethod):
    """BM25 of each unit against the question."""

    info = MethodInfo("BM25 over sentences; no model", "Robertson & Zaragoza 2009")

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """BM25 with k1 = 1.2 and b = 0.75; a passage ranks by its best unit."""
        values = Collection(visible_texts(passages, units)).score(cached_words(question))
        return Scores(tuple(values), best_unit_scores(values, units, len(passages)))

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """BM25 of whole passages with their titles; the passages of the request are the collection.

        Whole passages rank better than their best units: .705 and .564 nDCG@10 on SciFact claims.
        """
        values = Collection(whole_texts(passages)).score(cached_words(question))
        return Ranks(tuple(values), self.scores(question, passages, units).values)


Method = Lexical
