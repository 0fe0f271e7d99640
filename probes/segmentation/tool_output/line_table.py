"""The lines of what a tool printed, and what is known of each."""

from __future__ import annotations

import re
from itertools import accumulate

from tamis.probes.segmentation.lines import split_at_line_feeds
from tamis.probes.segmentation.tool_output.parts import Level

ROW_CHARS = 500
"""Patterns see this much of a line: what a tool says of a line stands at its front."""
PROGRESS_CHARS = 300
"""Longer lines with carriage returns in them are progress bars, a part a redraw."""
_REDRAW = re.compile(r"[^\r]*\r+|[^\r]+")
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]{0,200}\x07|[()][A-Z0-9])")


class LineTable:
    """Lines of a text, and per line its level, turn, header and whether it continues a part.

    Attributes:
        starts, stops: the span of each line, with its line end.
        numbers: of each line, from 1. Redraws of one progress bar have the same.
        rows: the front of each line without colours and white space at its end.
        levels: how much each matters. turns: which one of its failure's lines of this level it is.
        headers: the line that each is shown under, or -1.
        judged: lines of which a tool's own file says all: general files leave them alone.
        joined: whether each is shown with the line before, as one part.
    """

    def __init__(self, text: str, split_redraws: bool = True) -> None:
        self.text = text
        lines, self.numbers = _lines(text, split_redraws)
        edges = list(accumulate(map(len, lines), initial=0))
        self.starts, self.stops = edges[:-1], edges[1:]
        heads = [line[:ROW_CHARS].rstrip() for line in lines]
        self.rows = (
            [_ESCAPE.sub("", h) if "\x1b" in h else h for h in heads] if "\x1b" in text else heads
        )
        count = len(lines)
        self.levels: list[Level] = [Level.ORDINARY] * count
        self.turns = [0] * count
        self.headers = [-1] * count
        self.joined = [False] * count
        self.judged: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def mark(self, i: int, level: Level, turn: int = 0) -> None:
        """Line i matters at least this much."""
        if level < self.levels[i] or self.levels[i] == Level.REPEATED:
            self.levels[i], self.turns[i] = level, turn

    def put_under(self, i: int, header: int) -> None:
        """Line i is shown with a line before it, unless it has a header already."""
        if self.headers[i] < 0 and header < i:
            self.headers[i] = header

    def repeated(self, i: int) -> None:
        """Line i is one of many that say that all is well."""
        if self.levels[i] == Level.ORDINARY:
            self.levels[i] = Level.REPEATED

    def needs(self, i: int) -> tuple[int, ...]:
        """The headers of line i, outermost first."""
        chain: list[int] = []
        while (i := self.headers[i]) >= 0 and len(chain) < _MOST_HEADERS:
            chain.append(i)
        return tuple(reversed(chain))


_MOST_HEADERS = 12


def indent(row: str) -> int:
    """The width of the white space at the front."""
    return len(row) - len(row.lstrip())


def _lines(text: str, split_redraws: bool) -> tuple[list[str], list[int]]:
    lines = split_at_line_feeds(text)
    numbers = list(range(1, len(lines) + 1))
    if not split_redraws or "\r" not in text:
        return lines, numbers
    cut = [
        (part, number)
        for line, number in zip(lines, numbers, strict=True)
        for part in (_redraws(line) if len(line) > PROGRESS_CHARS else [line])
    ]
    return [part for part, _ in cut], [number for _, number in cut]


def _redraws(line: str) -> list[str]:
    """A progress bar as it was drawn again and again; other lines as they are."""
    if "\r" not in line[:-2]:
        return [line]
    parts: list[str] = _REDRAW.findall(line)
    if parts[-1] == "\n":
        parts[-2:] = [parts[-2] + "\n"]
    return parts
