"""Lines of what a tool printed, what is known of each, and the parts that they make."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate, groupby
from typing import Literal, NamedTuple

from tamis.text.lines import split_at_line_feeds
from tamis.text.readers.outputs.parts import (
    LAST_PROTECTED,
    Level,
    ParsedOutput,
    Part,
    PartUnit,
)

ROW_CHARS = 500
"""Patterns see this much of a line: what a tool says of a line stands at its front."""
PROGRESS_CHARS = 300
"""Longer lines with carriage returns in them are progress bars, a part a redraw."""
_REDRAW = re.compile(r"[^\r]*\r+|[^\r]+")
JOB_STAMP = r"\ufeff?(?:[^\t\n]*\t[^\t\n]*\t)?\ufeff?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z ?"
_STAMP = re.compile(rf"(?:{JOB_STAMP})?(?:#\d+ \d+\.\d+(?: |$))?")
"""What a service that runs jobs, and Docker, put before each line that a tool prints."""
_ESCAPE = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07\x1b]{0,200}\x07|[()][A-Z0-9])")


class LineTable:
    """Lines of a text, and per line its level, turn, header and whether it continues a part.

    Attributes:
        starts, stops: the span of each line, with its line end.
        numbers: of each line, from 1. Redraws of one progress bar have the same.
        rows: the front of each line without colours, white space at its end, and a job's stamp.
        levels: how much each matters. turns: which one of its failure's lines of this level it is.
        headers: the line that each is shown under, or -1.
        judged: lines of which a tool's own file says all: general files leave them alone.
        joined: whether each is shown with the line before, as one part.
        lists: the first lines of lists that are shown whole or not at all.
        loose: lines that the format of the whole text does not explain.
    """

    def __init__(self, text: str, split_redraws: bool = True) -> None:
        self.text = text
        lines, self.numbers = _lines(text, split_redraws)
        edges = list(accumulate(map(len, lines), initial=0))
        self.starts, self.stops = edges[:-1], edges[1:]
        heads = [line[:ROW_CHARS].rstrip() for line in lines]
        if "\x1b" in text:
            heads = [_ESCAPE.sub("", h) if "\x1b" in h else h for h in heads]
        self.rows = [_STAMP.sub("", h, 1) for h in heads]
        count = len(lines)
        self.levels: list[Level] = [Level.ORDINARY] * count
        self.turns = [0] * count
        self.headers = [-1] * count
        self.joined = [False] * count
        self.judged: set[int] = set()
        self.lists: set[int] = set()
        self.loose: set[int] = set()

    def __len__(self) -> int:
        return len(self.rows)

    def mark(self, i: int, level: Level, turn: int = 0, header: int = -1) -> None:
        """Line i matters at least this much, and is shown under the header that is given."""
        self.put_under(i, header)
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

    def keep_lists_whole(self) -> None:
        """Neighbours under one header are a part, unless the list is long: half a list misleads."""
        most = min(max(SHORT_LIST, LIST_SHARE * len(self.text)), LONG_LIST)
        headers = set(self.headers)
        entries = [
            i
            for i, level in enumerate(self.levels)
            if level > LAST_PROTECTED and self.rows[i].strip() and i not in headers
        ]
        for _, group in groupby(entries, key=lambda i: self.headers[i]):
            for members in _neighbours(list(group)):
                first, last = members[0], members[-1]
                if first < last and self.stops[last] - self.starts[first] <= most:
                    self.lists.add(first)
                    self.joined[first + 1 : last + 1] = [True] * (last - first)

    def needs(self, i: int) -> tuple[int, ...]:
        """The headers of line i, outermost first."""
        chain: list[int] = []
        while (i := self.headers[i]) >= 0 and len(chain) < _MOST_HEADERS:
            chain.append(i)
        return tuple(reversed(chain))


_MOST_HEADERS = 12
SHORT_LIST, LONG_LIST, LIST_SHARE = 500, 1_500, 1 / 6
"""Characters: lists up to this share of the text, within these bounds, are kept or dropped whole.
Longer ones are chosen from like other lines: they would keep all else out of a small budget."""


class Rule(NamedTuple):
    """What a row is that a pattern matches.

    Attributes:
        level: how much it matters; None leaves that open, `REPEATED` is said of lines like others.
        header: `begins` one that rows below are shown under, `ends` it, or is `under` it; such a
            rule is passed over where there is no header.
        counts: whether it shows that the tool was at work.
    """

    pattern: re.Pattern[str]
    level: Level | None = None
    header: Literal["", "begins", "ends", "under"] = ""
    counts: bool = True


def mark_rows(lines: LineTable, rules: Sequence[Rule]) -> int:
    """Marks each row by the first rule that is of it; how many rules counted."""
    count, header = 0, -1
    for i, row in enumerate(lines.rows):
        for pattern, level, of_header, counts in rules:
            if (of_header == "under" and header < 0) or not pattern.match(row):
                continue
            count += counts
            if level == Level.REPEATED:
                lines.repeated(i)
            elif level is not None:
                lines.mark(i, level)
            if of_header == "under":
                lines.put_under(i, header)
            elif of_header:
                header = i if of_header == "begins" else -1
            break
    return count


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


LEAST_LINES = 4
"""Shorter runs are lines like others."""
LIKE_IT = "like it"
"""What the lines of a run without a common word are."""
ENTRIES = "entries"
"""What the lines of a list are that is shown whole or not at all."""
_VARIABLE = re.compile(r"(?<!\S)\S*[\d/\\_:=@#%~]\S*|\"[^\"]*\"|'[^']*'|[^\w\s\[\]()|]+")
_STATUS = re.compile(
    r"\s*(?:(?:\[ *\d+%\]|\[\w+\])\s*)?(PASS(?:ED)?|ok|OK|CC|CXX|AR|LD|gcc|g\+\+|cc|clang|c\+\+"
    r"|[A-Z][a-z]+(?:ing|ed|ched)|Get|Hit|test|adding|extracting|inflating|copying|creating|writing"
    r"|running|Selecting)\b"
)
_LAST_WORD = re.compile(r"\b([A-Z]{4,}|ok|passed|done|skipped)\b(?:\s|\W{0,3}\d|$)")
_WORD = re.compile(r"[^\W\d_]{2,}")


def find_runs(lines: LineTable) -> tuple[list[int], list[str]]:
    """For each line its run or -1, and what the lines of each run are.

    A line belongs to a run where neighbours differ from it in numbers, paths and names alone, or
    begin with the same word of progress. Lines that matter more than others are in none.
    """
    run_of = [-1] * len(lines)
    names: list[str] = []
    free = [i for i in range(len(lines)) if _is_free(lines, i)]
    for _, group in groupby(free, key=lambda i: _likeness(lines, i)):
        for members in _neighbours(list(group)):
            if len(members) < LEAST_LINES:
                continue
            for i in members:
                run_of[i] = len(names)
            for i in members[1:]:
                lines.repeated(i)
            names.append(_run_name(lines.rows[members[0]]))
    return run_of, names


def count_repeats(lines: LineTable) -> list[int]:
    """How many protected lines before each say the same but for numbers and paths."""
    seen: Counter[tuple[Level, str]] = Counter()
    repeats = [0] * len(lines)
    for i, level in enumerate(lines.levels):
        if level <= LAST_PROTECTED:
            key = level, _VARIABLE.sub("#", lines.rows[i])
            repeats[i] = seen[key]
            seen[key] += 1
    return repeats


def _is_free(lines: LineTable, i: int) -> bool:
    return lines.levels[i] >= Level.ORDINARY and bool(lines.rows[i].strip())


def _likeness(lines: LineTable, i: int) -> tuple[str, int]:
    row = lines.rows[i]
    if match := _STATUS.match(row):
        return match.group(1), lines.headers[i]
    template = _VARIABLE.sub("#", row)
    return (template if _WORD.search(template) else row), lines.headers[i]


def _neighbours(rows: list[int]) -> list[list[int]]:
    """The rows in groups without anything but themselves between."""
    groups: list[list[int]] = []
    for i in rows:
        if groups and groups[-1][-1] == i - 1:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups


def _run_name(row: str) -> str:
    """The word that all lines of a run share: `PASSED`, `Compiling`."""
    if match := _STATUS.match(row):
        return match.group(1)
    if match := _LAST_WORD.search(row):
        return match.group(1)
    return LIKE_IT


class WholeText(NamedTuple):
    """The lines of a text that is of one format.

    Attributes:
        unit: what ordinals count. first_row: the line that is the first such unit.
        has_lists: whether neighbours under one header are shown whole or not at all.
    """

    lines: LineTable
    format_name: str
    unit: PartUnit = "lines"
    first_row: int = 0
    has_lists: bool = False


def parts_of_lines(
    lines: LineTable, format_name: str, unit: PartUnit = "lines", first_row: int = 0
) -> ParsedOutput:
    """The parts of a text: each line with those that are joined to it.

    Args:
        unit: what ordinals count. first_row: the line that is the first such unit.
    """
    run_of, names = find_runs(lines)
    for i in sorted(lines.lists):
        run_of[i] = len(names)
        names.append(ENTRIES)
    repeats = count_repeats(lines)
    part_of: list[int] = []
    count = -1
    for i in range(len(lines)):
        count += not (lines.joined[i] and i)
        part_of.append(count)
    parts: list[Part] = []
    for i in range(len(lines)):
        number = lines.numbers[i] - first_row
        if lines.joined[i] and i:
            head = parts[-1]
            level = min(head.level, lines.levels[i])
            parts[-1] = head._replace(stop=lines.stops[i], last=number, level=level)
            continue
        needs = tuple(dict.fromkeys(part_of[j] for j in lines.needs(i)))
        parts.append(
            Part(
                lines.starts[i],
                lines.stops[i],
                number,
                number,
                lines.levels[i],
                unit if number > 0 else "lines",
                tuple(j for j in needs if j != part_of[i]),
                run_of[i],
                False,
                lines.turns[i] + repeats[i],
            )
        )
    return ParsedOutput(format_name, parts, names)
