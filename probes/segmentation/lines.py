"""Lines of a text, and marks, which give the blocks of a text.

A mark is the offset where a block begins, and its kind. The block ends at the next mark and
includes the blank lines before that. Links, images and inline code are markup inside a line, which
no sentence ends in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import accumulate, islice
from typing import NamedTuple

from tamis.probes.text import UnitKind

Mark = tuple[int, UnitKind]
_ROWS_AT_A_TIME = 1 << 14
"""One call in C holds the interpreter, and other threads wait."""


class Lines(NamedTuple):
    """Lines of a text: the offset of each, and its content without trailing white space.

    `entries` are the lines that begin an entry of a chat or log, and `next_items` those with the
    number that follows an item's, if these were determined.
    """

    starts: list[int]
    rows: list[str]
    entries: frozenset[int] = frozenset()
    next_items: frozenset[int] = frozenset()

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


# bounded, so that a run of opening brackets takes linear time, and without a way back among what
# is in brackets: an image in it can be read in four ways, and many of them in four to their number
_LINK = re.compile(
    r"!?\[(?:!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?|[^\[\]]){0,200}+\]\s?"
    r"\((?:[^()\s]|\([^()\s]{0,80}\)|\n){0,400}"
    r"(?:\s+\"(?:[^\"]|\"(?!\s{0,4}\))){0,200}\")?\s?\)"
)
_SIGN = "[¶\ue000-\uf8ff#]"
_TITLE_LINK = rf"\[{_SIGN}\]\([^()\n]{{0,300}}\)"
PERMALINK = re.compile(rf"{_SIGN}|{_TITLE_LINK}")
"""A pilcrow or `[#](…)`, the link from a heading to itself."""
LINKED_TITLE = re.compile(rf"\S.{{0,300}}(?:[¶\ue000-\uf8ff]|{_TITLE_LINK})$")
"""A line that ends with such a link: a heading, a signature or a caption."""
_CODE = re.compile(r"(?<!`)`[^`\n]{1,80}\n?[^`\n]{0,80}`(?!`)")


def markup_spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The spans of links, images and inline code in `[start, stop)`, links first."""
    for inner, sign, form in (("](", "[", _LINK), ("]\n(", "[", _LINK), ("`", "`", _CODE)):
        if text.find(inner, start, stop) >= 0:
            yield from _spans_from(sign, form, text, start, stop)


def _spans_from(
    sign: str, form: re.Pattern[str], text: str, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """The spans of a form that begins with a sign, or an image's with `!` before it.

    Tried at each sign: one search through many signs without a match would hold the interpreter.
    """
    at = text.find(sign, start, stop)
    while at >= 0:
        is_image = sign == "[" and at > start and text[at - 1] == "!"
        if (found := form.match(text, at - is_image, stop)) is not None:
            yield found.span()
            start = found.end()
        at = text.find(sign, max(at + 1, start), stop)
