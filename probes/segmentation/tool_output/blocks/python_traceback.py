"""Python's tracebacks with chained causes, groups and syntax errors."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable, indent
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"Traceback \(most recent call last\)|^ *File \"|\w(?:Error|Exception)\b", re.M)
FRAME = re.compile(r'[\s|+E]*File "([^"]+)", line \d+')
EXCEPTION = re.compile(
    r"[\s|+>]*(?:[a-z_][\w]*\.)*_?[A-Z]\w*"
    r"(?:Error|Exception|Interrupt|Exit|Warning|Iteration|Group|Failure|Timeout)\b(?::|$| \()"
)
_PREFIX = re.compile(r"[\s|+]*")
_LIBRARY = re.compile(r"site-packages|dist-packages|/lib/python3|\\Lib\\|^<|/runpy\.py|importlib")
_MOST_LINES = 2_000


def mark_lines(lines: LineTable) -> int:
    """Marks exceptions as messages, and the last frame outside libraries as their location."""
    count, i = 0, 0
    while i < len(lines):
        row = lines.rows[i]
        if "Traceback (most recent call last)" in row:
            stop = _mark_traceback(lines, i)
            count, i = count + stop - i, stop
        elif FRAME.match(row):  # a syntax error has a frame and no header
            stop = _mark_traceback(lines, i - 1)
            count, i = count + stop - i, max(stop, i + 1)
        else:
            if EXCEPTION.match(row) and "Warning" not in row:
                lines.mark(i, Level.MESSAGE)
                count += 1
            i += 1
    return count


def _mark_traceback(lines: LineTable, header: int) -> int:
    """Marks the traceback below a header; returns the line after its exception."""
    frames, i = [], header + 1
    depth = _depth(lines.rows[header], header >= 0)
    last = min(len(lines), header + _MOST_LINES)
    while i < last:
        row = lines.rows[i]
        if FRAME.match(row):
            frames.append(i)
        elif row.strip(" |") and _depth(row, True) <= depth:
            break
        lines.mark(i, Level.CONTEXT)
        i += 1
    if header >= 0:
        lines.mark(header, Level.CONTEXT)
    if frames:
        _mark_location(lines, frames)
    if i < last and _is_exception(lines.rows[i]):
        lines.mark(i, Level.MESSAGE)
        i += 1
    return i


def _depth(row: str, is_header: bool) -> int:
    """How far a line is indented; a log's prefix before the header does not count."""
    if not is_header:
        return 0
    match = _PREFIX.match(row)
    front = match.end() if match else 0
    is_logged = "Traceback" in row and not row[front:].startswith("Traceback")
    return 0 if is_logged else front


def _is_exception(row: str) -> bool:
    return bool(EXCEPTION.match(row) or re.match(r"[\s|+]*[\w.]+(?::|$)", row))


def _mark_location(lines: LineTable, frames: list[int]) -> None:
    own = [i for i in frames if not _LIBRARY.search(_path(lines.rows[i]))]
    at = (own or frames)[-1]
    lines.mark(at, Level.LOCATION)
    below = at + 1
    if below < len(lines) and indent(lines.rows[below]) > indent(lines.rows[at]):
        lines.mark(below, Level.DETAIL)
        lines.put_under(below, at)
    for i in frames:
        if i + 1 < len(lines) and not FRAME.match(lines.rows[i + 1]):
            lines.put_under(i + 1, i)


def _path(row: str) -> str:
    match = FRAME.match(row)
    return match.group(1) if match else ""
