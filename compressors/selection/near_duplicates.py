"""Near-duplicates among the kept units, by the Jaccard index of their sets of words."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from copy import copy
from heapq import nsmallest

from tamis.probes.segmentation.terms import cached_words

_MIN_DUPLICATE_WORDS = 4
_ROUNDING = 1e-9


class NearDuplicates:
    """Finds near-duplicates among the kept texts, by the Jaccard index of their sets of words.

    Exact, and without comparing all pairs: two sets with enough words in common have one of their
    rarest words in common (prefix filtering; Bayardo, Ma, Srikant, "Scaling Up All Pairs Similarity
    Search", 2007).
    """

    def __init__(self, texts: Iterable[str], share: float) -> None:
        self._share = share
        self._words = [frozenset(cached_words(text)) for text in texts]
        self._texts_with = Counter(word for words in self._words for word in words)
        self._kept_by_word: dict[str, set[int]] = defaultdict(set)

    def empty_copy(self) -> NearDuplicates:
        """The same texts, none of them kept."""
        twin = copy(self)
        twin._kept_by_word = defaultdict(set)
        return twin

    def add(self, u: int) -> None:
        """Adds text `u` to the kept ones."""
        for word in self._rarest_words(u):
            self._kept_by_word[word].add(u)

    def remove(self, u: int) -> None:
        """Removes text `u` from the kept ones."""
        for word in self._rarest_words(u):
            self._kept_by_word[word].discard(u)

    def is_near_duplicate(self, u: int) -> bool:
        """Whether a kept text has nearly the same words; false for texts of under 4 words."""
        if len(self._words[u]) < _MIN_DUPLICATE_WORDS:
            return False
        near = set().union(*(self._kept_by_word.get(word, ()) for word in self._rarest_words(u)))
        return any(self._jaccard(u, other) >= self._share - _ROUNDING for other in near)

    def _rarest_words(self, u: int) -> list[str]:
        words = self._words[u]
        common = math.ceil(self._share * len(words) - _ROUNDING)
        return nsmallest(len(words) - common + 1, words, key=lambda w: (self._texts_with[w], w))

    def _jaccard(self, u: int, v: int) -> float:
        one, other = self._words[u], self._words[v]
        return len(one & other) / len(one | other)
