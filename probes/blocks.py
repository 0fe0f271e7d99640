"""Blocks of plain text: paragraphs, Markdown and reStructuredText, source code.

A block is given by a mark: where it begins and what it is. It lasts until the next mark, with the
blank lines after it. Every reader takes whole lines and looks at each a bounded number of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import NamedTuple

from tamis.probes.text import Kind

Mark = tuple[int, Kind]

BLOCK_CHARS = 1_200  # code and JSON up to this length stay whole


class Lines(NamedTuple):
    """Lines of a text: where each begins, and what it says without the white space at its end."""

    starts: list[int]
    rows: list[str]

    def chars(self, first: int, last: int) -> int:
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


# ---- Markdown ----

_FENCE = re.compile(r"\s*(`{3,}+|~{3,}+)([^`]*)$")
_ATX = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_RULE = re.compile(r"([=\-~^\"*+#])\1{2,}+$")
_ITEM = re.compile(r"\s*(?:[-*+•‣▪◦·–]|\(?\d{1,3}[.)]|\(?[a-z]\))\s+\S")
# a number inside a paragraph is most often a number: only '1.' interrupts it (CommonMark 5.2)
_INTERRUPTING_ITEM = re.compile(r"\s*(?:[-*+•‣▪◦·]|1[.)])\s+\S")

_Read = tuple[list[Mark], int]


def markdown_marks(text: str, start: int = 0, stop: int | None = None) -> list[Mark]:
    """Fences, headings, tables, list items and paragraphs of `text[start:stop]`.

    CommonMark and GFM as far as lines decide it, and reStructuredText's underlined headings. Not
    code: lines indented by four blanks, which in retrieved text are mostly lists and quotations.
    """
    lines = lines_of(text, start, stop)
    closings = _closings(lines.rows)
    marks: list[Mark] = []
    at = 0
    while at < len(lines.rows):
        if not lines.rows[at]:
            at += 1
            continue
        found, at = _fence(lines, at, closings) if at in closings else _block(lines, at)
        marks += found
    return marks


def _block(lines: Lines, at: int) -> _Read:
    """The block that begins on a line, and the line after it."""
    for read in (_heading, _table, _item):
        found, after = read(lines, at)
        if found:
            return found, after
    after = at + 1
    while not _ends_block(lines, after, _INTERRUPTING_ITEM):
        after += 1
    return [(lines.starts[at], "sentence")], after


def _ends_block(lines: Lines, at: int, item: re.Pattern[str]) -> bool:
    """Whether a paragraph or list item is over before a line."""
    if at >= len(lines.rows) or not lines.rows[at]:
        return True
    row = lines.rows[at]
    opens = any(mark.match(row) for mark in (_FENCE, _ATX, _RULE, item))
    return opens or _is_table(lines.rows, at)


def _closings(rows: Sequence[str]) -> dict[int, int]:
    """For each fence, the line after the one that closes it.

    From the last line up, a stack per sort of fence keeps the bare fences that no nearer one
    outdoes. An opening passes at most as many of them as it has characters, so this is linear.
    """
    closings: dict[int, int] = {}
    stacks: dict[str, list[tuple[int, int]]] = {"`": [], "~": []}
    for at in range(len(rows) - 1, -1, -1):
        fence = _FENCE.match(rows[at])
        if fence is None:
            continue
        size, stack, bare = len(fence[1]), stacks[fence[1][0]], not fence[2].strip()
        # never closed: with a language's name, code follows; bare, it closes what was cut off above
        missing = at + 1 if bare else len(rows)
        closings[at] = next((line + 1 for line, other in reversed(stack) if other >= size), missing)
        while bare and stack and stack[-1][1] <= size:
            stack.pop()
        if bare:
            stack.append((at, size))
    return closings


def _fence(lines: Lines, at: int, closings: dict[int, int]) -> _Read:
    after = closings[at]
    if lines.chars(at, after) <= BLOCK_CHARS:
        return [(lines.starts[at], "code")], after
    return [
        (lines.starts[line], "code") for line in _code_lines(lines, at, after, _CODE_CUTS)
    ], after


def _heading(lines: Lines, at: int) -> _Read:
    """`# Title`, a title over a rule or between two (reStructuredText), or a rule alone."""
    row, below, after = (*lines.rows[at : at + 3], "", "")[:3]
    rule = _RULE.match(row)
    if _ATX.match(row):
        return [(lines.starts[at], "heading")], at + 1
    if rule and below and after == row:
        return [(lines.starts[at], "heading")], at + 3
    if rule:
        return [(lines.starts[at], "sentence")], at + 1
    if _underlines(below, row) and not _ITEM.match(row):
        return [(lines.starts[at], "heading")], at + 2
    return [], at


def _underlines(rule: str, title: str) -> bool:
    """`===` and `---` of any length; reStructuredText's other marks only as long as the title."""
    return bool(_RULE.match(rule)) and (rule[0] in "=-" or abs(len(rule) - len(title)) <= 1)


def _is_table(rows: Sequence[str], at: int) -> bool:
    if at + 1 >= len(rows) or "|" not in rows[at]:
        return False
    below = rows[at + 1]
    return "|" in below and "-" in below and set(below) <= set("|:- \t")


def _table(lines: Lines, at: int) -> _Read:
    if not _is_table(lines.rows, at):
        return [], at
    after = at + 2
    while after < len(lines.rows) and "|" in lines.rows[after]:
        after += 1
    body: list[Mark] = [(start, "table_row") for start in lines.starts[at + 2 : after]]
    return [(lines.starts[at], "table_header"), *body], after


def _item(lines: Lines, at: int) -> _Read:
    if not _ITEM.match(lines.rows[at]):
        return [], at
    after = at + 1
    while not _ends_block(lines, after, _ITEM):
        after += 1
    return [(lines.starts[at], "list_item")], after


# ---- source code ----

_CODE_END = ("{", "}", ";", ":", ")", ",", "(", "[", "]")
_CODE_START = re.compile(
    r"\s*(?:def|class|import|from|return|async|await|raise|assert|with|elif|else:|try:|except|package|using|public"
    r"|private|static|func|fn|let|const|var|struct|enum|#include|#|//|/\*|@\w)(?:\b|\s|$)|\s*\"\"\""
)
_CODE_FORM = re.compile(
    r"[\w\])] ?[-+*/]?= ?[\w\"'\[({]|\w\(|^\s*[{}\])]+[;,]?$|^\s*@\w|[{;]$"
    r"|^\s*(?:def|class|import|from \S+ import) ?"
)

_DEFINITION = re.compile(
    r"\s*(?:(?:async )?def \w+\(|class \w+[(:{ ]|import \w|from \S+ import |func \w|#include )"
)


def code_marks(text: str) -> list[Mark]:
    """The pieces of a source file, or none if the text does not look like one.

    Pieces begin at the left margin after a blank line; longer ones are cut at every blank line.
    """
    lines = lines_of(text)
    if not _is_code([row for row in lines.rows if row]):
        return []
    return [
        (lines.starts[line], "code") for line in _code_lines(lines, 0, len(lines.rows), _CODE_CUTS)
    ]


def _is_code(rows: Sequence[str]) -> bool:
    """Whether lines, none empty, are source code.

    They are if the first begins as code does and three define or import something (docstrings may
    hold most of the text), or if three in five begin or end as code does and one in three has a
    call, an assignment or a brace. A fence at the margin says Markdown.
    """
    if len(rows) < 3 or any(row[0] in "`~" and _FENCE.match(row) for row in rows):
        return False
    if _CODE_START.match(rows[0]) and sum(_DEFINITION.match(row) is not None for row in rows) >= 3:
        return True
    edges = sum(row.endswith(_CODE_END) or _CODE_START.match(row) is not None for row in rows)
    forms = sum(_CODE_FORM.search(row) is not None for row in rows)
    return 5 * edges >= 3 * len(rows) and 3 * forms >= len(rows)


def _after_blank(rows: Sequence[str], at: int) -> bool:
    return bool(rows[at]) and not rows[at - 1]


def _at_margin(rows: Sequence[str], at: int) -> bool:
    return _after_blank(rows, at) and not rows[at][0].isspace()


_CutRule = Callable[[Sequence[str], int], bool]
_CODE_CUTS: tuple[_CutRule, ...] = (_at_margin, _after_blank)


def _code_lines(lines: Lines, first: int, last: int, rules: Sequence[_CutRule]) -> Iterator[int]:
    """The lines where pieces of code begin: by the first rule; what stays too long by the next."""
    if not rules:
        yield from _packed_lines(lines, first, last)
        return
    cuts = [first, *(at for at in range(first + 1, last) if rules[0](lines.rows, at)), last]
    for start, stop in pairwise(cuts):
        if lines.chars(start, stop) <= BLOCK_CHARS:
            yield start
        else:
            yield from _code_lines(lines, start, stop, rules[1:])


def _packed_lines(lines: Lines, first: int, last: int) -> Iterator[int]:
    """As many lines to a piece as it holds."""
    yield first
    for at in range(first + 1, last):
        if lines.chars(first, at + 1) > BLOCK_CHARS:
            first = at
            yield at
