"""What a reading is, in a line: apart from its code, so that a list of them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadingInfo:
    """What a reading is, in a line, and where it comes from.

    Written in a reading's file as one call with literals, so that it can be read without importing
    the file.
    """

    summary: str
    source: str
