"""Stack traces of the JVM, with `Caused by`."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level
from tamis.probes.segmentation.tool_output.stack_trace import StackTrace, mark_message

HINT = re.compile(r"^[ \t]+at [\w.$/<>]+\(", re.M)
_FRAME = re.compile(r"\s*(?:\[\w+\]\s+)?at [\w.$/<>@ -]+\(([^)]*)\)")
_MORE = re.compile(r"\s+\.\.\. \d+ (?:more|common frames)")
_CAUSE = re.compile(r"\s*(?:Caused by|Suppressed|Wrapped by): ")
_LIBRARY = re.compile(
    r"at (?:java|javax|jdk|sun|com\.sun|kotlin|scala|groovy|akka|reactor|io\.netty|jakarta"
    r"|org\.(?:junit|springframework|apache|hibernate|gradle|eclipse|mockito|testng|opentest4j))"
    r"[./]|at java\.base/"
)
_EXCEPTION = re.compile(r"(?:Exception|Error|Throwable|Failure)\b")
_REACH = 5


def mark_lines(lines: LineTable) -> int:
    """Marks the line above the first frame and each cause, and the first frame of one's own."""
    count, trace = 0, StackTrace(lines, _LIBRARY)
    for i, row in enumerate(lines.rows):
        if "at " in row and _FRAME.match(row):
            count += 1
            if trace.message < 0:
                trace.begin(_mark_message(lines, i))
            trace.mark_frame(i)
        elif _CAUSE.match(row):
            count += 1
            trace.begin(i)
            lines.mark(i, Level.MESSAGE)
        elif _MORE.match(row):
            count += 1
            trace.mark_context(i)
        elif row:
            trace.end()
    return count


def _mark_message(lines: LineTable, frame: int) -> int:
    """The line above the first frame; a message of several lines begins with the exception."""
    message = mark_message(lines, frame, _EXCEPTION, _REACH)
    for i in range(message + 1, frame):
        lines.mark(i, Level.DETAIL, i - message)
        lines.put_under(i, message)
    return message
