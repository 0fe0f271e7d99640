"""Lines of a text, and the marks that readers of lines set.

A block is given by a mark: where it begins and what it is. It lasts until the next mark, with the
blank lines after it.
"""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

from tamis.probes.text import UnitKind

Mark = tuple[int, UnitKind]


class Lines(NamedTuple):
    """Lines of a text: where each begins, and what it says without the white space at its end.

    `entries` are those that begin an entry of a chat or log, where that was looked for.
    """

    starts: list[int]
    rows: list[str]
    entries: frozenset[int] = frozenset()

    def count_chars(self, first: int, last: int) -> int:
        """How many characters the lines `[first, last)` take, the last line's end aside."""
        return self.starts[last - 1] + len(self.rows[last - 1]) - self.starts[first]


def lines_of(text: str, start: int = 0, stop: int | None = None) -> Lines:
    """The lines of `text[start:stop]`, with offsets into the whole text."""
    cut = text[start:stop].splitlines(keepends=True)
    starts = list(accumulate(map(len, cut), initial=start))
    return Lines(starts[: len(cut)], [row.rstrip() for row in cut])


def paragraph_marks(text: str) -> list[Mark]:
    """What blank lines part, and nothing else."""
    lines = lines_of(text)
    above = ["", *lines.rows]
    return [
        (at, "sentence")
        for at, row, last in zip(lines.starts, lines.rows, above, strict=False)
        if row and not last
    ]
