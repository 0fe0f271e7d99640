"""Of records that are alike, the one whose identifier the question names comes first.

To a small model order SO-10490 means what order SO-10491 means: of a list of orders it prefers one
whose other words fit. An identifier is compared sign by sign instead. Texts that have it are never
below the best of those that have another of its shape, such as `SO-10499`; what has neither is
left alone, and so is the order among the texts that have it. No paper: measured in
lab/log/kept-passages.md#2026-11-30-the-record-that-is-asked-for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.bm25 import visible_texts
from tamis.compressors.features.scales import log_odds
from tamis.compressors.inputs import read_before
from tamis.probes.text import Passage, Unit

MARGIN = 0.1
"""The log odds by which the best text with the identifier is above the best with another."""
OTHERS = 2.0
"""The log odds that a unit of another record loses."""
MOST_IDENTIFIERS = 8
"""A question with more of them, such as a pasted log, asks for none."""
MOST_CHARS = 64
"""A longer run of letters, digits and signs is no identifier."""
Floats = NDArray[np.float64]
_MIN_PROBABILITY = 1e-9
_RUN = re.compile(r"[A-Za-z0-9]+(?:[-_.:/#][A-Za-z0-9]+)*")
_YEAR = re.compile(r"(?:19|20)\d\d")
_CODE = re.compile(r"(?=.*\d)[a-z].{3,}")
_HASH = re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{7,}")
_VERSION = re.compile(r"\d+(?:\.\d+){2,}")
_NUMBER = re.compile(r"(?=(?:\D*\d){4})\d+(?:[-_.:/#]\d+)*")
_DIGITS = re.compile(r"\d+")


def identifiers(question: str) -> list[str]:
    """The identifiers in a question, in lower case: codes, versions, hashes, numbers, dates, times.

    Words with a digit (`KX-200`), versions of three parts, and four digits or more that are no
    year; none of a question with more than `MOST_IDENTIFIERS`.
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
            of that shape and none of the question's, `[N, K]`.
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
        found = [[(bool(o.search(t)), bool(a.search(t))) for o, a in forms] for t in texts()]
        has, alike = np.moveaxis(np.array(found, dtype=bool).reshape(-1, len(names), 2), 2, 0)
        return cls(names, has, alike & ~has.any(1, keepdims=True))

    def raise_scores(self, scores: Floats, lower: float = 0.0) -> Floats:
        """The same scores, but that those of texts with an identifier are raised, `[N]`.

        Args:
            scores: log odds, or others that are added up, `[N]`.
            lower: what is taken from those of texts that have another one.
        """
        scores = scores.copy()
        for own, other in zip(self.has.T, self.has_another.T, strict=True):
            if own.any() and other.any():
                scores[own] += max(0.0, scores[other].max() + MARGIN - scores[own].max())
                scores[other] -= lower
        return scores

    def raise_probabilities(self, values: Sequence[float], lower: float = 0.0) -> tuple[float, ...]:
        """The same for probabilities; those that do not change stay to the bit."""
        z = log_odds(values, _MIN_PROBABILITY)
        moved = self.raise_scores(z, lower)
        return tuple(np.where(moved == z, values, 1 / (1 + np.exp(-moved))).tolist())

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

    A record is what stands on one line of a table, a log or JSON, an object with its members, or an
    item of configuration with what is deeper: its identifier is in the first part, and what is
    asked for in another.

    Args:
        headings: the unit that is the heading above each, else -1, `[U]`.
    """
    shown = visible_texts(passages, units)
    titles = [read_before(passage) for passage in passages]
    records, of_unit, depth = list[list[str]](), list[int](), 0
    for u, (unit, text) in enumerate(zip(units, shown, strict=True)):
        whole, before = passages[unit.passage].text, units[u - 1] if u else None
        gap = whole[before.visible[1] : unit.visible[0]] if before else ""
        line = whole[whole.rfind("\n", 0, unit.visible[0]) + 1 : unit.visible[0]]
        if unit.kind == "json":
            goes_on = text[0] not in "{["
        elif unit.kind == "code":
            goes_on = len(line) > depth and not text.startswith("- ")
        else:
            goes_on = unit.kind in ("table_row", "entry") and "\n" not in gap
        same = before is not None and before.passage == unit.passage and before.kind == unit.kind
        if not (same and goes_on):
            records.append([titles[unit.passage], shown[h] if (h := headings[u]) >= 0 else ""])
            depth = len(line)
        records[-1].append(text)
        of_unit.append(len(records) - 1)
    joined = list(map("\n".join, records))
    return [joined[record] for record in of_unit]


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
