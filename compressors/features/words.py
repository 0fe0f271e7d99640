"""Words of units: features of those shared with the question and the best, and the records that a
question names by number."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.bm25 import Collection, visible_texts
from tamis.compressors.features.scales import log_odds, z_scores
from tamis.compressors.reading.windows import question_sentences
from tamis.probes.interruption import check_interruption
from tamis.text.inputs import read_before
from tamis.text.lines import line_starts
from tamis.text.terms import cached_words, stem
from tamis.text.types import Passage, Unit

Features = NDArray[np.float32]
Floats = NDArray[np.float64]

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
"""A missing neighbour has this score below the best: about e^-8 of its share."""


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

    Of a question of several sentences each that asks is compared alone, and a feature is the
    largest of theirs; those that share no word with any unit take nothing.
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


# Of records that are alike, the one whose identifier the question names comes first. To a small
# model order SO-10490 means what order SO-10491 means: of a list of orders it prefers one whose
# other words fit. So an identifier is compared sign by sign, and texts that have it are never below
# the best of those that have another of its shape. What has neither is left alone, and so is the
# order among those that have it. No paper; measured in
# lab/log/kept-passages.md#2026-11-30-the-record-that-is-asked-for.
MARGIN = 0.1
"""The log odds by which texts with the identifier are above the best with another."""
_SQUEEZE = 1e-3
"""Distances between texts are raised to this power, which keeps their order."""
OTHERS = 2.0
"""The log odds that a unit of another record loses."""
MOST_IDENTIFIERS = 8
"""A question with more of them, such as a pasted log, asks for none."""
MOST_CHARS = 64
"""A longer run of letters, digits and signs is no identifier."""
_MIN_PROBABILITY = 1e-9
_RUN = re.compile(r"[A-Za-z0-9]+(?:[-_.:/#][A-Za-z0-9]+)*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CODE = re.compile(r"(?=.*\d)[a-z].{3,}|[a-z]\d\d")
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{7,}")
_VERSION = re.compile(r"\d+(?:\.\d+){2,}")
_NUMBER = re.compile(r"(?=(?:\D*\d){4})\d+(?:[-_.:/#]\d+)*")
_DIGITS = re.compile(r"\d+")
_UNMARKED = re.compile(r"[^ \t*\-#[(\"'`|]")
"""Other than what may stand before an identifier at the beginning of a line."""


def identifiers(question: str) -> list[str]:
    """The identifiers in a question, in lower case: codes, versions, hashes, numbers, dates, times.

    Words with a digit (`KX-200`, `E04`), versions of three parts, and four digits or more that are
    no year; none of a question with more than `MOST_IDENTIFIERS`.
    """
    found = dict.fromkeys(
        run for run in map(str.lower, _RUN.findall(question)) if _is_identifier(run)
    )
    return list(found) if len(found) <= MOST_IDENTIFIERS else []


def _is_identifier(run: str) -> bool:
    if _YEAR.fullmatch(run) or len(run) > MOST_CHARS:
        return False
    return any(form.fullmatch(run) for form in (_CODE, _HASH, _VERSION, _NUMBER))


@dataclass(frozen=True, slots=True)
class NamedTexts:
    """Which of N texts have which of the K identifiers of a question.

    Attributes:
        names: of the question, K. has: `[N, K]`. has_another: whether a text has another identifier
            of that shape and none of the question's of that shape, `[N, K]`.
    """

    names: Sequence[str]
    has: NDArray[np.bool_]
    has_another: NDArray[np.bool_]

    @classmethod
    def find(cls, question: str, texts: Callable[[], Iterable[str]]) -> NamedTexts | None:
        """None where the question has no identifier; then the texts are not asked for."""
        if not (names := identifiers(question)):
            return None
        forms = list(map(_patterns, names))
        known: dict[str, list[tuple[bool, bool]]] = {}  # all units of a record have its text
        for text in (every := list(texts())):
            if text not in known:
                check_interruption()
                known[text] = [(bool(o.search(text)), bool(a.search(text))) for o, a in forms]
        found = [known[text] for text in every]
        has, alike = np.moveaxis(np.array(found, dtype=bool).reshape(-1, len(names), 2), 2, 0)
        shapes = np.array([every.pattern for _, every in forms])
        has_one_alike = has @ (shapes[:, None] == shapes)
        return cls(names, has, alike & ~has_one_alike)

    def raise_scores(self, scores: Floats, lower: float = 0.0) -> Floats:
        """The same scores, but that those of texts with an identifier are raised, `[N]`.

        Of two identifiers a text counts as one with either only if it has no other in place of the
        second: the release of that number, of another product.

        Args:
            scores: log odds, or others that are added up, `[N]`.
            lower: what is taken from those of texts that have another one.
        """
        scores = scores.copy()
        has_no_other = ~self.has_another.any(1)
        for one, other in zip(self.has.T, self.has_another.T, strict=True):
            own = one & has_no_other
            if own.any() and other.any():
                least = scores[other].max() + MARGIN
                below = scores[own] - min(least, scores[own].max())
                scores[own] = np.maximum(scores[own], least + _SQUEEZE * below)
                scores[other] -= lower
        return scores

    def raise_probabilities(self, values: Sequence[float], lower: float = 0.0) -> tuple[float, ...]:
        """The same for probabilities; those that do not change stay to the bit."""
        z = log_odds(values, _MIN_PROBABILITY)
        return _probabilities(values, z, self.raise_scores(z, lower))

    @property
    def warnings(self) -> list[str]:
        """What no text has, where several have another of its shape."""
        missing = ~self.has.any(0) & (self.has_another.sum(0) > 1)
        return [
            f"nothing that was read has {name!r}, which the question names; others of its kind are "
            "there, so what is kept may be about another one"
            for name, is_missing in zip(self.names, missing.tolist(), strict=True)
            if is_missing
        ]


def record_texts(
    passages: Sequence[Passage], units: Sequence[Unit], headings: NDArray[np.int64]
) -> list[str]:
    """The text of the record that each unit is of, below its passage's title and its heading.

    A record is what stands on one line of a table, a log or JSON, an object with its members, an
    item of configuration with what is deeper, or a line of sentences that begins with an
    identifier, which is in the first part, and what is asked for in another.

    Args:
        headings: the unit that is the heading above each, else -1, `[U]`.
    """
    shown = visible_texts(passages, units)
    titles = [read_before(passage) for passage in passages]
    records, of_unit, depth = list[list[str]](), list[int](), 0
    starts, line, lead_at = line_starts(passages, units), (-1, -1), 0
    for u, (unit, text) in enumerate(zip(units, shown, strict=True)):
        whole, before = passages[unit.passage].text, units[u - 1] if u else None
        at = unit.visible[0]
        gap = whole[before.visible[1] : at] if before else ""
        indent = at - starts[u]
        if line != (unit.passage, starts[u]):
            line = (unit.passage, starts[u])
            found = _UNMARKED.search(whole, starts[u])
            lead_at = found.start() if found else at
        if unit.kind == "json":
            goes_on = text[0] not in "{["
        elif unit.kind == "code":
            goes_on = indent > depth and not text.startswith("- ")
        else:
            lead = _RUN.match(whole, lead_at, min(at, lead_at + MOST_CHARS + 2))
            kinds = ("table_row", "entry", "sentence" if lead and identifiers(lead[0]) else "")
            goes_on = unit.kind in kinds and "\n" not in gap
        same = before is not None and before.passage == unit.passage and before.kind == unit.kind
        if not (same and goes_on):
            records.append([titles[unit.passage], shown[h] if (h := headings[u]) >= 0 else ""])
            depth = indent
        records[-1].append(text)
        of_unit.append(len(records) - 1)
    joined = list(map("\n".join, records))
    return [joined[record] for record in of_unit]


def _probabilities(values: Sequence[float], before: Floats, after: Floats) -> tuple[float, ...]:
    """Probabilities whose log odds were moved; those that do not change stay to the bit."""
    return tuple(np.where(after == before, values, 1 / (1 + np.exp(-after))).tolist())


def _patterns(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What finds an identifier, and what finds all of its shape."""
    if _HASH.fullmatch(name):
        shape = rf"[0-9a-f]{{{len(name)}}}"
    else:
        shape = "".join(_shapes(name))
    is_number = _NUMBER.fullmatch(name)
    after = r"(?!\d|[-./]\d)" if is_number else r"(?![A-Za-z0-9]|[-_][A-Za-z0-9]|\.\d)"
    own, every = (
        re.compile(rf"(?<![A-Za-z0-9]){middle}{after}", re.IGNORECASE)
        for middle in (re.escape(name), shape)
    )
    return own, every


def _shapes(name: str) -> Iterator[str]:
    """The parts of a pattern: letters and signs as they are, of numbers how many digits."""
    has_own_signs = bool(_CODE.fullmatch(name) or _VERSION.fullmatch(name))
    end = 0
    for run in _DIGITS.finditer(name):
        yield re.escape(name[end : run.start()])
        yield r"\d+" if has_own_signs else rf"\d{{{len(run[0])}}}"
        end = run.end()
    yield re.escape(name[end:])
