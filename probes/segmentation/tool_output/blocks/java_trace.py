"""Stack traces of the JVM, with `Caused by`."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^[ \t]+at [\w.$/<>]+\(", re.M)
_FRAME = re.compile(r"\s*(?:\[\w+\]\s+)?at [\w.$/<>@ -]+\(([^)]*)\)")
_MORE = re.compile(r"\s+\.\.\. \d+ (?:more|common frames)")
_CAUSE = re.compile(r"\s*(?:Caused by|Suppressed|Wrapped by): ")
_LIBRARY = re.compile(
    r"at (?:java|javax|jdk|sun|com\.sun|kotlin|scala|groovy|akka|reactor|io\.netty|jakarta"
    r"|org\.(?:junit|springframework|apache|hibernate|gradle|eclipse|mockito|testng|opentest4j))"
    r"[./]|at java\.base/"
)


def mark_lines(lines: LineTable) -> int:
    """Marks the line above the first frame and each cause, and the first frame of one's own."""
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
        elif _CAUSE.match(row):
            count += 1
            message, has_location = i, False
            lines.mark(i, Level.MESSAGE)
        elif _MORE.match(row):
            count += 1
            lines.mark(i, Level.CONTEXT, i - message)
            lines.put_under(i, message)
        elif row:
            message = -1
    return count


def _message(lines: LineTable, frame: int) -> int:
    """The line above the first frame; a message of several lines begins with the exception."""
    for i in range(frame - 1, max(-1, frame - 6), -1):
        if re.search(r"(?:Exception|Error|Throwable|Failure)\b", lines.rows[i]):
            lines.mark(i, Level.MESSAGE)
            for between in range(i + 1, frame):
                lines.mark(between, Level.DETAIL, between - i)
                lines.put_under(between, i)
            return i
    if frame > 0 and lines.rows[frame - 1]:
        lines.mark(frame - 1, Level.MESSAGE)
    return max(0, frame - 1)
