"""What a pattern is, in a line: apart from its code, so that a list of them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatternInfo:
    """What a pattern is, in a line, and where it comes from.

    Written in a pattern's file as one call with literals, so that it can be read without importing
    the file.

    Attributes:
        share: what the share that a pattern is built with is a share of.
        needs_similarity: it is built with the similarity of the model's layers, see `Pattern`.
    """

    summary: str
    source: str
    share: str = "blocks multiplied"
    needs_similarity: bool = False
