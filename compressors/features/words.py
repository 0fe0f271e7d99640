"""Features of a unit's words: shared with the question, and shared with the best units so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.bm25 import Collection, visible_texts
from tamis.compressors.features.scales import z_scores
from tamis.compressors.inputs import read_before
from tamis.compressors.reading.windows import question_sentences
from tamis.probes.segmentation.terms import cached_words, stem
from tamis.probes.text import Passage, Unit

Features = NDArray[np.float32]

WORD_FEATURES = (
    "bm25",
    "bm25_z",
    "bm25_titled",
    "bm25_titled_z",
    "question_covered",
    "question_covered_titled",
    "title_asked",
    "passage_bm25",
    "log_tokens",
)
HOP_FEATURES = (
    "first_score",
    "below_best",
    "words_shared",
    "title_named",
    "names_title",
    "titles_shared_words",
    "same_passage",
    "passage_below_best",
    "previous_below_best",
    "next_below_best",
    "first_share",
    "named_and_passage",
)
_EPSILON = 1e-6
_TOP_UNITS = 2
_MISSING_NEIGHBOUR = -8.0
"""Of a missing neighbour, as a score below the best: about e^-8 of its share."""


class Lexicon:
    """The terms and stems of each unit and title of a request, and how rare each stem is in it."""

    def __init__(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> None:
        self.units = units
        self.terms = [cached_words(text) for text in visible_texts(passages, units)]
        self.title_terms = [cached_words(read_before(passage)) for passage in passages]
        self.question = frozenset(map(stem, cached_words(question)))
        self.stems = [frozenset(map(stem, terms)) for terms in self.terms]
        self.title_stems = [frozenset(map(stem, terms)) for terms in self.title_terms]
        self.titled = [
            s | self.title_stems[u.passage] for s, u in zip(self.stems, units, strict=True)
        ]
        units_with = Counter(s for stems in self.titled for s in stems)
        self._idf = {s: self._idf_of(count) for s, count in units_with.items()}
        self._idf_of_unknown = self._idf_of(0)

    def _idf_of(self, units_with: int) -> float:
        return math.log(1 + (len(self.units) - units_with + 0.5) / (units_with + 0.5))

    def weight(self, stems: frozenset[str]) -> float:
        """The sum of some stems' idf."""
        # fsum: a set of words has another order in every process, and plain sums would differ
        return math.fsum(self._idf.get(s, self._idf_of_unknown) for s in stems)


def word_features(question: str, lexicon: Lexicon, tokens: Sequence[int]) -> Features:
    """Features of the words that each unit shares with the question: `[U, len(WORD_FEATURES)]`.

    Of a question of several sentences each is compared alone, and a feature is the largest of
    theirs: a body that says nothing of the answer takes little from the sentence that asks, and
    sentences that share no word with any unit take nothing.
    """
    titled_terms = (
        lexicon.title_terms[u.passage] + terms
        for u, terms in zip(lexicon.units, lexicon.terms, strict=True)
    )
    plain, titled = Collection.of_terms(lexicon.terms), Collection.of_terms(titled_terms)
    known = frozenset().union(*lexicon.titled)
    asked = [cached_words(question[a:b]) for a, b in question_sentences(question)]
    asked = [terms for terms in asked if not known.isdisjoint(map(stem, terms))]
    shared = [
        _shared_words(terms, lexicon, plain, titled) for terms in asked or [cached_words(question)]
    ]
    lengths = np.log1p(np.array(tokens)).astype(np.float32)
    return np.concatenate([np.maximum.reduce(shared), lengths[:, None]], 1)


def _shared_words(
    asked: Sequence[str], lexicon: Lexicon, plain: Collection, titled: Collection
) -> Features:
    """All of `WORD_FEATURES` but the last, for one sentence of the question.

    Args:
        asked: its terms. plain: the terms of each unit. titled: with those of its title.
    """
    units, stems = lexicon.units, frozenset(map(stem, asked))
    bm25, with_title = np.array(plain.score(asked)), np.array(titled.score(asked))
    whole = lexicon.weight(stems) + 1e-6
    place = np.array([unit.passage for unit in units])
    columns = (
        np.log1p(bm25),
        z_scores(bm25, _EPSILON),
        np.log1p(with_title),
        z_scores(with_title, _EPSILON),
        [lexicon.weight(stems & s) / whole for s in lexicon.stems],
        [lexicon.weight(stems & s) / whole for s in lexicon.titled],
        [_shared_fraction(lexicon.title_stems[u.passage], stems) for u in units],
        np.log1p(group_maximum(bm25, place)),
    )
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], 1)


def hop_features(lexicon: Lexicon, first: NDArray[np.float64]) -> Features:
    """How each unit relates to the best units of the first step: `[U, len(HOP_FEATURES)]`.

    The second fact of a question with two hops is not named by the question but by the first fact:
    by words that both share beyond the question's, or by the title of the passage it is in.

    Args:
        first: one score per unit from the first step.
    """
    best = np.argsort(-first, kind="stable")[: _TOP_UNITS + 1]
    top = first[best[0]]
    share = np.exp(first - top)
    share /= share.sum()
    place = np.array([unit.passage for unit in lexicon.units])
    below = first - top
    links = [
        _link_features(lexicon, i, [int(t) for t in best[:_TOP_UNITS] if t != i])
        for i in range(len(first))
    ]
    linked = np.array(links, dtype=np.float32).reshape(len(first), 5)
    neighbours = np.full((len(first), 2), _MISSING_NEIGHBOUR)
    together = place[1:] == place[:-1]
    neighbours[1:, 0] = np.where(together, below[:-1], _MISSING_NEIGHBOUR)
    neighbours[:-1, 1] = np.where(together, below[1:], _MISSING_NEIGHBOUR)
    passage_below = group_maximum(first, place) - top
    columns = [
        first,
        below,
        *linked.T,
        passage_below,
        *neighbours.T,
        share,
        linked[:, 1] * passage_below,
    ]
    return np.stack([np.asarray(column, dtype=np.float32) for column in columns], 1)


def group_maximum(scores: NDArray[np.float64], group: NDArray[np.int64]) -> NDArray[np.float64]:
    """For each unit the best score of its group, `[U]`."""
    best = np.full(group.max() + 1, -np.inf)
    np.maximum.at(best, group, scores)
    return np.asarray(best[group])


def _link_features(
    lexicon: Lexicon, i: int, best: Sequence[int]
) -> tuple[float, float, float, float, float]:
    """How unit i is linked to the best units: the columns `words_shared` to `same_passage`."""
    here, title = lexicon.units[i].passage, lexicon.title_stems[lexicon.units[i].passage]
    shared = named = names = titles = same = 0.0
    for t in best:
        other = lexicon.units[t].passage
        common = (lexicon.titled[i] & lexicon.titled[t]) - lexicon.question
        shared = max(shared, lexicon.weight(common))
        if here == other:
            same = 1.0
            continue
        named = max(named, _shared_fraction(title, lexicon.stems[t]))
        names = max(
            names, float(_shared_fraction(lexicon.title_stems[other], lexicon.stems[i]) == 1)
        )
        titles = max(
            titles, lexicon.weight((title & lexicon.title_stems[other]) - lexicon.question)
        )
    return math.log1p(shared), named, names, math.log1p(titles), same


def _shared_fraction(part: frozenset[str], whole: frozenset[str]) -> float:
    return len(part & whole) / len(part) if part else 0.0
