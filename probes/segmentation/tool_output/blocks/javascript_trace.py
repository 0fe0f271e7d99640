"""Stack traces of JavaScript, and node's line of source above them."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^[ \t]+at \S", re.M)
_FRAME = re.compile(
    r"(?!.*\.(?:rs|go|py|java):)\s+at (?:.+ \()?[^()]*:\d+(?::\d+)?\)?$"
    r"|\s+at (?:async )?.*<anonymous>"
)
_SOURCE = re.compile(r"(?:file://)?\S+\.[cm]?[jt]sx?:\d+$")
_LIBRARY = re.compile(r"node_modules|node:|\(internal/|<anonymous>")
_ERROR = re.compile(r"\b\w*(?:Error|Exception|Rejection)\b")


def mark_lines(lines: LineTable) -> int:
    """Marks the error above the first frame, and the first frame outside of libraries."""
    count, message, has_location = 0, -1, True
    for i, row in enumerate(lines.rows):
        if "at " in row and _FRAME.match(row):
            count += 1
            if message < 0:
                message, has_location = _message(lines, i), False
            if not has_location and not _LIBRARY.search(row):
                lines.mark(i, Level.LOCATION)
                has_location = True
            lines.mark(i, Level.CONTEXT, i - message)
            lines.put_under(i, message)
        else:
            message = -1 if row else message
            if _SOURCE.match(row):
                count += 1
                _mark_source(lines, i)
    return count


def _message(lines: LineTable, frame: int) -> int:
    for i in range(frame - 1, max(-1, frame - 8), -1):
        if _ERROR.search(lines.rows[i]):
            lines.mark(i, Level.MESSAGE)
            for between in range(i + 1, frame):
                if lines.rows[between]:
                    lines.mark(between, Level.DETAIL, between - i)
            return i
    if frame > 0 and lines.rows[frame - 1]:
        lines.mark(frame - 1, Level.MESSAGE)
    return max(0, frame - 1)


def _mark_source(lines: LineTable, at: int) -> None:
    """`/app/index.js:12`, the line of source below it and the caret under that."""
    for i in range(at + 1, min(len(lines), at + 4)):
        if lines.rows[i].strip(" ^~\t") or not lines.rows[i]:
            continue
        lines.mark(at, Level.LOCATION)
        for j in range(at + 1, i + 1):
            lines.mark(j, Level.DETAIL, j - at)
            lines.put_under(j, at)
