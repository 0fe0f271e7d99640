"""BM25: the free baseline, and a feature of the methods that read.

Source: Robertson, Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), §3.
Departures: a unit is a document and the units of one request are the collection; idf is log(1 + (N
- n + .5) / (n + .5)), which is never negative. Words are runs of letters and digits, case folded;
scripts without blanks between words are indexed by pairs of characters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import chain

from tamis.text.inputs import read_before
from tamis.text.terms import cached_words
from tamis.text.types import Passage, Unit


class Collection:
    """Texts as bags of terms, with what BM25 needs to know about all of them."""

    def __init__(self, texts: Iterable[str], k1: float = 1.2, b: float = 0.75) -> None:
        self._fill(map(cached_words, texts), k1, b)

    @classmethod
    def of_terms(cls, texts: Iterable[Sequence[str]]) -> Collection:
        """A collection of texts whose terms are known."""
        collection = cls.__new__(cls)
        collection._fill(texts)
        return collection

    def _fill(self, texts: Iterable[Sequence[str]], k1: float = 1.2, b: float = 0.75) -> None:
        self._terms = list(texts)
        self._sets = list(map(frozenset, self._terms))
        self._bags: dict[int, Counter[str]] = {}
        self.k1, self.b = k1, b
        self.sizes = list(map(len, self._terms))
        self.mean_size = max(1.0, sum(self.sizes) / max(1, len(self.sizes)))

    @property
    def bags(self) -> list[Counter[str]]:
        """How often each term is in each text."""
        return list(map(self._bag, range(len(self._terms))))

    def _bag(self, i: int) -> Counter[str]:
        if i not in self._bags:
            self._bags[i] = Counter(self._terms[i])
        return self._bags[i]

    @cached_property
    def _texts_with(self) -> Counter[str]:
        return Counter(chain.from_iterable(self._sets))

    def idf(self, term: str) -> float:
        """How rare a term is in this collection; largest for a term that never occurs."""
        n = self._texts_with[term]
        return math.log(1 + (len(self._terms) - n + 0.5) / (n + 0.5))

    def score(self, query: Sequence[str]) -> list[float]:
        """BM25 of every text; a term that the query repeats counts once for each time."""
        weights = {term: count * self.idf(term) for term, count in Counter(query).items()}
        asked = frozenset(weights)
        # in most texts is none of the terms, and they need no bag
        return [
            0 if asked.isdisjoint(terms) else self._score(weights, i)
            for i, terms in enumerate(self._sets)
        ]

    def _score(self, weights: dict[str, float], i: int) -> float:
        bag = self._bag(i)
        norm = self.k1 * (1 - self.b + self.b * self.sizes[i] / self.mean_size)
        return sum(
            weight * bag[term] * (self.k1 + 1) / (bag[term] + norm)
            for term, weight in weights.items()
            if term in bag
        )


def visible_texts(passages: Sequence[Passage], units: Sequence[Unit]) -> list[str]:
    """The text of each unit without the white space around it."""
    return [passages[unit.passage].text[slice(*unit.visible)] for unit in units]


def visible_texts_of_each(passages: Sequence[Passage], units: Sequence[Unit]) -> list[list[str]]:
    """`visible_texts` of each passage's units, passage by passage."""
    found: list[list[str]] = [[] for _ in passages]
    for unit, text in zip(units, visible_texts(passages, units), strict=True):
        found[unit.passage].append(text)
    return found


def whole_texts(passages: Sequence[Passage]) -> list[str]:
    """Each passage as one text, its header and title on lines before it."""
    return [f"{read_before(passage)}{passage.text}" for passage in passages]
