"""From a table of lines to parts; runs of like lines are shown by their first."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import (
    LAST_PROTECTED,
    Level,
    ParsedOutput,
    Part,
    PartUnit,
)

LEAST_LINES = 4
"""Shorter runs are lines like others."""
LIKE_IT = "like it"
"""What the lines of a run without a common word are."""
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
            names.append(_name(lines.rows[members[0]]))
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


def _name(row: str) -> str:
    """The word that all lines of a run share: `PASSED`, `Compiling`."""
    if match := _STATUS.match(row):
        return match.group(1)
    if match := _LAST_WORD.search(row):
        return match.group(1)
    return LIKE_IT


def parts_of_lines(
    lines: LineTable, format_name: str, unit: PartUnit = "lines", first_row: int = 0
) -> ParsedOutput:
    """The parts of a text: each line with those that are joined to it.

    Args:
        unit: what ordinals count. first_row: the line that is the first such unit.
    """
    run_of, names = find_runs(lines)
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
