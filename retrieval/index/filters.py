"""Conditions on metadata: `year>=2000`, `lang=en,de`, `tag!=draft`.

A condition names a key of the documents' metadata, or `id` or `title` of the document itself, which
hide metadata of the same name. A document without the key meets no condition but `!=`. A metadata
value that is a list meets a condition if one of its members does (`!=`: if none is equal).
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption

MAX_CONDITION_CHARS = 10_000
"""One condition as text has at most so many; the mapping form takes values of any length."""
_SHOWN_CHARS = 80
_SIGN = re.compile("[=!<>]=?")
_COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
SIGNS = ("=", "!=", *_COMPARISONS)
_USAGE = "give key=value, key!=value, key=a,b or key>=number"


@dataclass(frozen=True, slots=True)
class MetadataCondition:
    """A key, a sign, and values to compare with: one of them must match (for `!=` none may)."""

    key: str
    sign: str
    values: tuple[Any, ...]
    _wanted: _Values = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.sign not in SIGNS:
            raise BadInput(
                f"a condition has the sign {self.sign!r}; give one of {', '.join(SIGNS)}"
            )
        if self.sign in _COMPARISONS and len(self.values) != 1:
            raise BadInput(f"{self.key}{self.sign} compares with one value, got {self.values}")
        if self.sign in _COMPARISONS and not _is_comparable(self.values[0]):
            raise BadInput(
                f"{self.key}{self.sign} compares with a number or a text, got {self.values[0]!r}"
            )
        object.__setattr__(self, "_wanted", _Values(self.values))

    def is_met_by(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a document with this metadata meets the condition."""
        held = metadata.get(self.key)
        members = held if isinstance(held, list | tuple) else [] if held is None else [held]
        if self.sign in _COMPARISONS:
            return any(_compare(self.sign, member, self.values[0]) for member in members)
        return any(map(self._wanted.has, members)) == (self.sign == "=")


class _Values:
    """Values in sets, so that a document is compared with thousands of them at once."""

    def __init__(self, values: Iterable[Any]) -> None:
        self.others: list[Any] = []  # such as lists
        self.plain, self.texts, self.numbers = set[Any](), set[str](), set[float | None]()
        for value in values:
            check_interruption()  # numbers may be chosen that take a set long
            try:
                self.plain.add((isinstance(value, bool), value))  # True == 1
            except TypeError:
                self.others.append(value)
            if isinstance(value, str):
                self.texts.add(value.casefold())
                self.numbers.add(_number(value))

    def has(self, member: Any) -> bool:
        """Whether one is equal, also as typed on a command line: "2000" is 2000, "true" is True."""
        try:
            found = (isinstance(member, bool), member) in self.plain
        except TypeError:
            return member in self.others
        if isinstance(member, bool):
            return found or str(member).casefold() in self.texts
        return found or (isinstance(member, int | float) and member in self.numbers)


def parse_condition(text: str) -> MetadataCondition:
    """Parses a condition such as `year>=2000`; commas separate the values of `=` and `!=`.

    Raises:
        BadInput: the text is not a condition.
    """
    if not isinstance(text, str):
        raise BadInput(f"{text!r:.{_SHOWN_CHARS}} is no condition; {_USAGE}")
    if len(text) > MAX_CONDITION_CHARS:
        raise BadInput(
            f"a condition has {len(text):,} characters and {MAX_CONDITION_CHARS:,} is the most; "
            'give many values as a mapping, such as {"key": ["a", "b"]}'
        )
    key, sign, value = _split_at_sign(text)
    if not key or sign not in SIGNS or not value.strip(" ,"):
        raise BadInput(f"{text!r:.{_SHOWN_CHARS}} is no condition; {_USAGE}")
    if value[0] in "=!<>" or (sign in _COMPARISONS and any(c in value for c in "<>")):
        raise BadInput(
            f"{text!r:.{_SHOWN_CHARS}} has more than one sign; {_USAGE}, and two conditions for a "
            "range: key>=low and key<high"
        )
    values = value.split(",") if sign in ("=", "!=") else [value]
    return MetadataCondition(key, sign, tuple(part.strip() for part in values))


def _split_at_sign(text: str) -> tuple[str, str, str]:
    """The key, the first sign and the value, without white space around them; "" for no sign."""
    found = _SIGN.search(text)
    if found is None:
        return text.strip(), "", ""
    before, sign, after = text[: found.start()], found[0], text[found.end() :]
    if sign == "==":
        sign, after = "=", "=" + after
    return before.strip() or before[-1:], sign, after.strip()  # a key may be a space


def parse_conditions(
    where: Mapping[str, Any] | Sequence[str] | str | None,
) -> tuple[MetadataCondition, ...]:
    """Parses the argument `where` of a search into conditions, all of which have to be met.

    Args:
        where: a condition as text, a list of such texts, or a mapping from keys to one value, to a
            list of which one must match, or to values by sign: `{">=": 2000, "<": 2010}`.

    Raises:
        BadInput: anything else.
    """
    if where is None:
        return ()
    if isinstance(where, str):
        return (parse_condition(where),)
    if isinstance(where, list | tuple):
        return tuple(parse_condition(text) for text in where)
    if not isinstance(where, Mapping):
        raise BadInput(f"where is {where!r}; give a mapping, a condition, or a list of conditions")
    found: list[MetadataCondition] = []
    for key, value in where.items():
        if not isinstance(key, str):
            raise BadInput(f"where names the key {key!r}; keys of metadata are texts")
        if isinstance(value, Mapping):
            if not value:
                raise BadInput(
                    f"where says nothing of {key!r}; give a value, or a sign with one, such as "
                    '{">=": 2000}'
                )
            found += [MetadataCondition(key, sign, _values(of)) for sign, of in value.items()]
        else:
            found.append(MetadataCondition(key, "=", _values(value)))
    return tuple(found)


def meets_all(document: Mapping[str, Any], conditions: Sequence[MetadataCondition]) -> bool:
    """Whether a document, `id`, `title` and `metadata`, meets every condition."""
    values = {**document["metadata"], "id": document["id"]}  # id and title hide metadata keys
    if document["title"] is not None:
        values["title"] = document["title"]
    return all(condition.is_met_by(values) for condition in conditions)


def _values(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple | set) else (value,)


def _compare(sign: str, member: Any, value: Any) -> bool:
    """Whether `member sign value` holds: numbers compare as numbers, texts (ISO dates) as texts."""
    if isinstance(member, int | float) and not isinstance(member, bool):
        number = value if type(value) is int else _number(value)  # large integers stay exact
        return number is not None and _COMPARISONS[sign](member, number)
    return isinstance(member, str) and _COMPARISONS[sign](member, str(value))


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _is_comparable(value: Any) -> bool:
    """Whether it is a number, a text, or a date, whose ISO text compares as the date does."""
    return not isinstance(value, bool) and (
        isinstance(value, str | int | float) or hasattr(value, "isoformat")
    )
