"""Stack traces of JavaScript, and node's line of source above them."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level
from tamis.probes.segmentation.tool_output.stack_trace import StackTrace, mark_message

HINT = re.compile(r"^[ \t]+at \S", re.M)
_FRAME = re.compile(
    r"(?!.*\.(?:rs|go|py|java):)\s+at (?:.+ \()?[^()]*:\d+(?::\d+)?\)?$"
    r"|\s+at (?:async )?.*<anonymous>"
)
_SOURCE = re.compile(r"(?:file://)?\S+\.[cm]?[jt]sx?:\d+$")
_LIBRARY = re.compile(r"node_modules|node:|\(internal/|<anonymous>")
_ERROR = re.compile(r"\b\w*(?:Error|Exception|Rejection)\b")
_REACH = 7


def mark_lines(lines: LineTable) -> int:
    """Marks the error above the first frame, and the first frame outside of libraries."""
    count, trace = 0, StackTrace(lines, _LIBRARY)
    for i, row in enumerate(lines.rows):
        if "at " in row and _FRAME.match(row):
            count += 1
            if trace.message < 0:
                trace.begin(_mark_message(lines, i))
            trace.mark_frame(i)
        else:
            if row:
                trace.end()
            if _SOURCE.match(row):
                count += 1
                _mark_source(lines, i)
    return count


def _mark_message(lines: LineTable, frame: int) -> int:
    message = mark_message(lines, frame, _ERROR, _REACH)
    for i in range(message + 1, frame):
        if lines.rows[i]:
            lines.mark(i, Level.DETAIL, i - message)
    return message


def _mark_source(lines: LineTable, at: int) -> None:
    """`/app/index.js:12`, the line of source below it and the caret under that."""
    for i in range(at + 1, min(len(lines), at + 4)):
        if lines.rows[i].strip(" ^~\t") or not lines.rows[i]:
            continue
        lines.mark(at, Level.LOCATION)
        for j in range(at + 1, i + 1):
            lines.mark(j, Level.DETAIL, j - at)
            lines.put_under(j, at)
