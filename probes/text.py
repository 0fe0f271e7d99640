"""Passages of text, and the units (such as sentences) that are kept or dropped as a whole.

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
        id: the caller's own identifier, or None.
        title: read before the passage and shown when titles are requested; never a unit.
        metadata: passed through unchanged.
        keep: half-open spans that must be kept whatever their score.
        min_tokens: the fewest tokens of this passage to keep, if the budget allows.
    """

    text: str
    id: str | None = None
    title: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    keep: tuple[tuple[int, int], ...] = ()
    min_tokens: int = 0


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
