"""Text as the rest of tamis sees it: passages, and the units they are kept or dropped by.

Offsets are half-open code-point indexes into the caller's own string. Nothing is stripped or
normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
class Passage:
    """One retrieved document, or a piece of one.

    Attributes:
        text: verbatim; may be empty.
        id: the caller's own; None where it has none.
        title: read before the passage, shown when titles are asked for, never a unit.
        metadata: carried along untouched.
        keep: spans that must be kept, whatever their score.
        min_tokens: at least so many tokens of this passage are kept if the budget allows.
    """

    text: str
    id: str | None = None
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[tuple[int, int], ...] = ()
    min_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """One unit of a text: `[start, stop)` with the white space that follows it, and what it is.

    `visible` is the same span without the white space around it; that is what is shown and cited.
    """

    start: int
    stop: int
    visible: tuple[int, int]
    kind: UnitKind = "sentence"


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece with the index of the passage it belongs to."""

    passage: int
    start: int
    stop: int
    visible: tuple[int, int]
    kind: UnitKind = "sentence"
