"""pytest: sections of failures with their `E` lines, the short summary, the last line."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^={3,} \w|^E   |^_{3,} |^FAILED |(?:PASSED|FAILED|ERROR) +\[", re.M)
_SECTION = re.compile(r"=+ (.+?) =+$")
_TEST = re.compile(r"_{3,} (.+?) _{3,}$")
_LOCATION = re.compile(
    r"\S+?:\d+: (?:in |[\w.]*(?:Error|Exception|Exit|Interrupt|Failed|Skipped)\b|$)|\S+:\d+: \w+$"
)
_SHORT = re.compile(r"(FAILED|ERROR|XPASS|XFAIL|SKIPPED)\b.*")
_STATUS = re.compile(
    r"(?>\S+?(?:::| )).*\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS|RERUN)\b(?:\s|$)"
    r"|\S+\.py [.FEsxX]+(?:\s|$)"
)
_COUNTS = re.compile(
    r"(?<!\d)\d+ (?:passed|failed|error|skipped|xfailed|deselected|warning)|no tests ran"
)
_CAPTURED = re.compile(r"-+ Captured .* -+$")
_LIBRARY = re.compile(r"site-packages|/lib/python3|_pytest/")


def mark_lines(lines: LineTable) -> int:
    """Marks what each test says of its failure, and where; lines of passed tests are repeated."""
    count, section, i = 0, "", 0
    while i < len(lines):
        row, stop = lines.rows[i], i + 1
        if row.endswith("=") and (match := _SECTION.match(row)):
            section = match.group(1)
            if _COUNTS.search(section):
                lines.mark(i, Level.OUTCOME)
        elif section in ("FAILURES", "ERRORS"):
            if _TEST.match(row):
                stop = _failure_stop(lines, i + 1)
                _mark_failure(lines, i, stop)
        elif not _mark_line(lines, i, section):
            count -= 1
        count, i = count + stop - i, stop
    return count


def _mark_line(lines: LineTable, i: int, section: str) -> bool:
    """A line outside of failures; whether it is pytest's."""
    row = lines.rows[i]
    if section.startswith("short test summary"):
        return _mark_summary(lines, i)
    if section.startswith("warnings summary"):
        return True
    if section.startswith("test session") and (match := _STATUS.match(row)):
        if match.group(1) in ("FAILED", "ERROR"):
            lines.mark(i, Level.CONTEXT)
        else:
            lines.repeated(i)
        return True
    if _COUNTS.match(row) and " in " in row:  # pytest -q
        lines.mark(i, Level.OUTCOME)
        return True
    return False


def _mark_summary(lines: LineTable, i: int) -> bool:
    """A line of the short summary: a failure with its message in the fewest tokens."""
    match = _SHORT.match(lines.rows[i])
    if match is None:
        if _COUNTS.match(lines.rows[i]):
            lines.mark(i, Level.OUTCOME)
        return bool(lines.rows[i])
    is_failure = match.group(1) in ("FAILED", "ERROR")
    lines.mark(i, Level.MESSAGE if is_failure else Level.WARNING)
    return True


def _failure_stop(lines: LineTable, i: int) -> int:
    """The line after a test's section."""
    while i < len(lines) and not (_TEST.match(lines.rows[i]) or _SECTION.match(lines.rows[i])):
        i += 1
    return i


def _mark_failure(lines: LineTable, header: int, stop: int) -> None:
    lines.mark(header, Level.CONTEXT)
    errors, places = [], []
    for i in range(header + 1, stop):
        row = lines.rows[i]
        lines.put_under(i, header)
        if row.startswith("E  ") or row == "E":
            errors.append(i)
        elif _LOCATION.match(row):
            places.append(i)
        elif row.startswith(">"):
            lines.mark(i, Level.DETAIL, 1)
        elif _CAPTURED.match(row):
            break
        elif row:
            lines.mark(i, Level.CONTEXT, i - header)
    _mark_errors(lines, errors)
    _mark_places(lines, places, not errors)


def _mark_errors(lines: LineTable, errors: list[int]) -> None:
    """The first of each block of `E` lines, for a chained exception has several blocks."""
    turn = 0
    for above, i in zip([-2, *errors], errors, strict=False):
        turn = turn + 1 if above == i - 1 else 0
        lines.mark(i, Level.DETAIL if turn else Level.MESSAGE, max(1, turn))


def _mark_places(lines: LineTable, places: list[int], is_message: bool) -> None:
    """Where it failed: the last place in one's own code; a doctest has nothing else to say."""
    own = [i for i in places if not _LIBRARY.search(lines.rows[i])]
    for i in places:
        is_last = i == (own or places)[-1]
        lines.mark(i, Level.LOCATION if is_last else Level.DETAIL, 0 if is_last else 2)
        if is_last and is_message:
            lines.mark(i, Level.MESSAGE, 1)
