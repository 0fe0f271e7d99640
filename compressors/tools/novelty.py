"""What a part of an output says that was not known before: what an agent may need next.

An agent's next call names ids, paths, dates and numbers that it read in a result. The words of the
question do not find them, for what it asked with, it has. The weights are those of a logistic
regression on which parts are used later in runs of an agent that changes bookings of flights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tamis.text.readers.outputs.parts import Part

_TOKEN = re.compile(r"[\w#@$~][\w#@$~./+-]*")
_DATE = re.compile(r"\d{4}-\d\d(?:-\d\d)?(?:T\w*)?")
_NUMBER = re.compile(r"\d{3,}|\d+\.\d+")
_IDENTIFIER = re.compile(
    r"(?=.*\d)(?=.*[^\W\d]).{3,}"  # letters and digits
    r"|[\w#@$~+-]*[_/@#.~][\w/][\w#@$~./+-]*"  # marks within
    r"|\w*[a-z][A-Z]\w*"
)
_NAMES_ID = re.compile(
    r'"(?:\w*(?:_id|_ids|_number|Id|Ids|Number)|ids?|number|code|key|path|file|url|uid|uuid|ref|sha'
    r'|hash|slug|handle|arn)"\s*:',
    re.I,
)
_KEY = re.compile(r'\s*"[^"\\]*"\s*:\s*')
_EMPTY = re.compile(r'"?(?:true|false|null|none|no|yes|\d{0,2}|\[\s*\]|\{\s*\})"?,?\s*', re.I)
_FRONT_CHARS = 2_000

FEATURES = ("identifier", "number", "date", "names_id", "listed", "echoes", "empty")
WEIGHTS = (0.4, 0.7, 0.8, 1.0, 4.0, -3.0, -2.7)
"""By feature."""


def part_features(text: str, parts: Sequence[Part], asked: str) -> list[tuple[bool, ...]]:
    """The features of each part, by the names of `FEATURES`; 2,000 characters of it are seen.

    It has a new identifier, a new number of three digits or a new date; under a key of ids; it is
    an array of scalars that has one; all that it has of these was known; its value says nothing.

    Args:
        asked: the call and the question, whose identifiers are known.
    """
    known, rows = set(_values(asked)), list[tuple[bool, ...]]()
    for part in parts:
        body = text[part.start : min(part.stop, part.start + _FRONT_CHARS)]
        value = _KEY.sub("", body, 1)
        own = _values(value)
        new = [one for one in own if one not in known]
        dates = [one for one in new if _DATE.fullmatch(one)]
        numbers = [one for one in new if _NUMBER.fullmatch(one)]
        is_array = value[:1] == "[" if part.place == "member" else body[:1] not in "{["
        is_array &= part.place in ("member", "element")
        rows.append(
            (
                len(new) > len(dates) + len(numbers),
                bool(numbers),
                bool(dates),
                bool(new) and part.place == "member" and _NAMES_ID.match(body) is not None,
                bool(new) and is_array,
                bool(own) and not new,
                _EMPTY.fullmatch(value) is not None,
            )
        )
    return rows


def novelty(text: str, parts: Sequence[Part], asked: str) -> list[float]:
    """How much speaks for each part to be used later: log odds, 0 for one with nothing of it."""
    return [
        sum(weight for weight, holds in zip(WEIGHTS, row, strict=True) if holds)
        for row in part_features(text, parts, asked)
    ]


def _values(text: str) -> list[str]:
    """Identifiers, paths, dates and numbers of three digits and more."""
    found = (match.group().rstrip("./+-") for match in _TOKEN.finditer(text))
    return [
        one
        for one in found
        if (len(one) > 2 and (_NUMBER.fullmatch(one) or _IDENTIFIER.fullmatch(one)))
        or _DATE.fullmatch(one)
    ]
