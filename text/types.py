"""Passages of text, and the units (such as sentences) that are kept or dropped as a whole.

Offsets are half-open code-point indexes into the caller's own string. Nothing is stripped or
normalised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tamis.probes.errors import BadInput

ID_DIGITS = 24


def to_bytes(text: str) -> bytes:
    """UTF-8, also of halves of characters, which JSON and names of files can hold."""
    return text.encode("utf-8", "surrogatepass")


def content_id(data: bytes) -> str:
    """What a text is asked for by: `ID_DIGITS` hex digits of its SHA-256.

    The same text always has the same one, so a prompt that repeats it stays in a provider's cache.
    """
    return hashlib.sha256(data).hexdigest()[:ID_DIGITS]


UnitKind = Literal[
    "sentence",
    "heading",
    "list_item",
    "entry",
    "code",
    "table_header",
    "table_row",
    "json",
    "html",
]


@dataclass(frozen=True, slots=True)
class KindTraits:
    """How the units of a kind are treated.

    Attributes:
        block: what they make together; units that follow each other and make the same are a block.
        is_indented: whether the blanks before one on its line are shown with it.
        is_split: whether a long one is cut into sentences.
        is_listed: whether one stands on a line of its own, below whatever introduces it.
        is_in_html: whether pages of HTML have such units, too.
    """

    block: str
    is_indented: bool = True
    is_split: bool = False
    is_listed: bool = False
    is_in_html: bool = False


KINDS: Mapping[UnitKind, KindTraits] = {
    "sentence": KindTraits("paragraph", is_indented=False),
    "heading": KindTraits("heading", is_indented=False, is_in_html=True),
    "list_item": KindTraits("list", is_split=True, is_listed=True),
    "entry": KindTraits("entry", is_split=True, is_listed=True),
    "code": KindTraits("code", is_listed=True, is_in_html=True),
    "table_header": KindTraits("table", is_in_html=True),
    "table_row": KindTraits("table", is_listed=True, is_in_html=True),
    "json": KindTraits("json", is_listed=True),
    "html": KindTraits("html", is_split=True),
}


@dataclass(frozen=True, slots=True)
class Passage:
    """One retrieved document, or a piece of one.

    Attributes:
        text: verbatim; may be empty.
        id: the caller's own, or None.
        title: read before the passage and shown when titles are requested; never a unit.
        metadata: passed through.
        keep: half-open spans that are kept whatever their score.
        min_tokens: the fewest tokens of this passage to keep, if the budget allows.
        header: a line read before the title, never shown, such as who speaks.
        pieces: its units; by default those of `text`.
    """

    text: str
    id: str | None = None
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[tuple[int, int], ...] = ()
    min_tokens: int = 0
    header: str | None = None
    pieces: tuple[Piece, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """One unit of a single text: its span `[start, stop)`, including the white space after it.

    `visible` is the same span without surrounding white space: the part that is shown and cited.
    """

    start: int
    stop: int
    visible: tuple[int, int]
    kind: UnitKind = "sentence"


@dataclass(frozen=True, slots=True)
class Unit:
    """A `Piece` with the index of the passage it belongs to."""

    passage: int
    start: int
    stop: int
    visible: tuple[int, int]
    kind: UnitKind = "sentence"


def units_among(units: Sequence[Unit], passages: Sequence[int]) -> list[Unit]:
    """The units of some passages, which are numbered by their places among these."""
    place = {passage: i for i, passage in enumerate(passages)}
    return [replace(u, passage=place[u.passage]) for u in units if u.passage in place]


@dataclass(frozen=True, slots=True)
class CorpusDocument:
    """A document of an index, added and deleted by its id.

    Attributes:
        id: the caller's own, unique in the index.
        text: verbatim. title: read and indexed with every chunk.
        metadata: JSON values, for filters and for the caller.
        source: the file that it was read from, as seen from the index; `/./` ends the folder that
            was named. None where it is of no file.
    """

    id: str
    text: str
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, str) or not self.id:
            raise BadInput(f"a document's id is {self.id!r}; give a text that is not empty")
        if not isinstance(self.text, str):
            raise BadInput(f"document {self.id!r} has {type(self.text).__name__} as its text")
        if self.title is not None and not isinstance(self.title, str):
            raise BadInput(
                f"document {self.id!r} has {type(self.title).__name__} as its title; give a text"
            )
        is_mapping = isinstance(self.metadata, Mapping)
        odd = (
            _describe_non_json(dict(self.metadata)) if is_mapping else type(self.metadata).__name__
        )
        if odd:
            raise BadInput(
                f"document {self.id!r} has metadata that JSON has not: {odd}; give texts, "
                "numbers, true, false, null, lists and mappings by text, dates as their text"
            )


_MAX_INTEGER_BITS = 10_000
"""Integers up to about 3,000 digits: Python converts no more than 4,300 to and from text."""


def _describe_non_json(metadata: Any) -> str:
    """The first value found that JSON cannot hold, in words; empty if there is none."""
    remaining = [metadata]
    while remaining:
        value = remaining.pop()
        if isinstance(value, dict):
            if odd := [key for key in value if not isinstance(key, str)]:
                return f"the key {odd[0]!r}"
            remaining += value.values()
        elif isinstance(value, list | tuple):
            remaining += value
        elif value is not None and not isinstance(value, str | int | float):
            return f"{value!r} ({type(value).__name__})"
        elif isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
            return f"a whole number of {value.bit_length():,} bits"
    return ""
