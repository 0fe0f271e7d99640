"""Lines of a text, and marks, which give the blocks of a text.

A mark is the offset where a block begins, and its kind. The block ends at the next mark and
includes the blank lines before that.
"""

from __future__ import annotations

from itertools import accumulate, islice
from typing import NamedTuple

from tamis.probes.text import UnitKind

Mark = tuple[int, UnitKind]
_ROWS_AT_A_TIME = 1 << 14
"""One call in C holds the interpreter, and other threads wait."""


class Lines(NamedTuple):
    """Lines of a text: the offset of each, and its content without trailing white space.

    `entries` are the lines that begin an entry of a chat or log, if these were determined.
    """

    starts: list[int]
    rows: list[str]
    entries: frozenset[int] = frozenset()

    def count_chars(self, first: int, last: int) -> int:
        """The number of characters in lines `[first, last)`, without the last line's end."""
        return self.starts[last - 1] + len(self.rows[last - 1]) - self.starts[first]


def lines_of(text: str, start: int = 0, stop: int | None = None) -> Lines:
    """The lines of `text[start:stop]`, with offsets into the whole text."""
    cut = text[start:stop].splitlines(keepends=True)
    starts = [start]
    for first in range(0, len(cut), _ROWS_AT_A_TIME):
        sizes = map(len, cut[first : first + _ROWS_AT_A_TIME])
        starts += islice(accumulate(sizes, initial=starts[-1]), 1, None)
    rows = [row.rstrip() for row in cut]
    if start == 0 and rows and rows[0] != "\ufeff":
        rows[0] = rows[0].removeprefix("\ufeff")  # a mark of the encoding hides no first block
    return Lines(starts[: len(cut)], rows)


def split_at_line_feeds(text: str) -> list[str]:
    """The lines with their ends, as markers count them: a line ends with a line feed alone."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


def paragraph_marks(text: str) -> list[Mark]:
    """Marks of the paragraphs, which only blank lines separate."""
    lines = lines_of(text)
    above = ["", *lines.rows]
    return [
        (at, "sentence")
        for at, row, last in zip(lines.starts, lines.rows, above, strict=False)
        if row and not last
    ]
