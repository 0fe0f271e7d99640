"""BM25 over sentences: the free baseline, and a feature of the methods that read.

Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), §3.
Departures: a unit is a document and the units of one request are the collection; idf is log(1 + (N
- n + .5) / (n + .5)), which is never negative. Words are runs of letters and digits, case folded;
scripts without blanks between words are indexed by pairs of characters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from tamis.compressors.method import Info
from tamis.compressors.types import Ranks, Scores
from tamis.probes.segmentation.terms import words as words
from tamis.probes.text import Passage, Unit


class Collection:
    """Texts as bags of terms, with what BM25 needs to know about all of them."""

    def __init__(self, texts: Sequence[str], k1: float = 1.2, b: float = 0.75) -> None:
        self.bags = [Counter(words(text)) for text in texts]
        self.k1, self.b = k1, b
        self.sizes = [sum(bag.values()) for bag in self.bags]
        self.mean_size = max(1.0, sum(self.sizes) / max(1, len(self.sizes)))
        self._texts_with = Counter(term for bag in self.bags for term in bag)

    def idf(self, term: str) -> float:
        """How rare a term is in this collection; largest for a term that never occurs."""
        n = self._texts_with[term]
        return math.log(1 + (len(self.bags) - n + 0.5) / (n + 0.5))

    def score(self, query: Sequence[str]) -> list[float]:
        """BM25 of every text; a term that the query repeats counts once for each time."""
        weights = {term: count * self.idf(term) for term, count in Counter(query).items()}
        return [self._score(weights, i) for i in range(len(self.bags))]

    def _score(self, weights: dict[str, float], i: int) -> float:
        bag = self.bags[i]
        norm = self.k1 * (1 - self.b + self.b * self.sizes[i] / self.mean_size)
        return sum(
            weight * bag[term] * (self.k1 + 1) / (bag[term] + norm)
            for term, weight in weights.items()
            if term in bag
        )


def visible_texts(passages: Sequence[Passage], units: Sequence[Unit]) -> list[str]:
    """The text of each unit without the white space around it."""
    return [passages[unit.passage].text[slice(*unit.visible)] for unit in units]


def whole_texts(passages: Sequence[Passage]) -> list[str]:
    """Each passage as one text, its title on a line before it."""
    return [f"{p.title}\n{p.text}" if p.title else p.text for p in passages]


def best_of_passage(
    values: Sequence[float], units: Sequence[Unit], passages: int
) -> tuple[float, ...]:
    """One number a passage, for ranking: its best unit's value; an empty one gets the lowest."""
    floor = min(values, default=0.0)
    best = [floor] * passages
    for value, unit in zip(values, units, strict=True):
        best[unit.passage] = max(best[unit.passage], value)
    return tuple(best)


class Lexical:
    """BM25 of each unit against the question."""

    info = Info("BM25 over sentences; no model", "Robertson & Zaragoza 2009")

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """BM25 with k1 = 1.2 and b = 0.75; a passage ranks by its best unit."""
        values = Collection(visible_texts(passages, units)).score(words(question))
        return Scores(tuple(values), best_of_passage(values, units, len(passages)))

    def ranked(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """BM25 of whole passages with their titles; the passages of the request are the collection.

        Whole passages rank better than their best units: .705 and .564 nDCG@10 on SciFact claims.
        """
        values = Collection(whole_texts(passages)).score(words(question))
        return Ranks(tuple(values), self.scores(question, passages, units).values)


Method = Lexical
