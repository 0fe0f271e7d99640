"""Tracebacks of Python, stack traces of the JVM and of JavaScript: messages, locations, frames."""

from __future__ import annotations

import re

from tamis.text.lines import indent_of
from tamis.text.readers.outputs.line_table import LineTable
from tamis.text.readers.outputs.parts import Level


class StackTrace:
    """The trace that a line is of: its message, and whether its location was found.

    Attributes:
        message: the line that its frames are shown under, or -1 outside of traces.
    """

    def __init__(self, lines: LineTable, library: re.Pattern[str]) -> None:
        """`library` matches frames that are not the caller's own."""
        self.lines, self.library = lines, library
        self.message, self.has_location = -1, True

    def begin(self, message: int) -> None:
        """A trace, or a cause within one, with its message."""
        self.message, self.has_location = message, False

    def end(self) -> None:
        """What follows is of no trace."""
        self.message = -1

    def mark_frame(self, i: int) -> None:
        """The first frame outside of libraries is the location."""
        if not self.has_location and not self.library.search(self.lines.rows[i]):
            self.lines.mark(i, Level.LOCATION)
            self.has_location = True
        self.mark_context(i)

    def mark_context(self, i: int) -> None:
        """A line that is shown under the message."""
        self.lines.mark(i, Level.CONTEXT, i - self.message, header=self.message)


def mark_message(lines: LineTable, frame: int, error: re.Pattern[str], reach: int) -> int:
    """Marks the message above a first frame, and returns its line.

    It is the nearest line that names an error, at most `reach` above, or else the one above.
    """
    for i in range(frame - 1, max(-1, frame - 1 - reach), -1):
        if error.search(lines.rows[i]):
            lines.mark(i, Level.MESSAGE)
            return i
    if frame > 0 and lines.rows[frame - 1]:
        lines.mark(frame - 1, Level.MESSAGE)
    return max(0, frame - 1)


_JAVA_FRAME = re.compile(r"\s*(?:\[\w+\]\s+)?at [\w.$/<>@ -]+\(([^)]*)\)")
_JAVA_MORE = re.compile(r"\s+\.\.\. \d+ (?:more|common frames)")
_JAVA_CAUSE = re.compile(r"\s*(?:Caused by|Suppressed|Wrapped by): ")
_JAVA_LIBRARY = re.compile(
    r"at (?:java|javax|jdk|sun|com\.sun|kotlin|scala|groovy|akka|reactor|io\.netty|jakarta"
    r"|org\.(?:junit|springframework|apache|hibernate|gradle|eclipse|mockito|testng|opentest4j))"
    r"[./]|at java\.base/"
)
_JAVA_EXCEPTION = re.compile(r"(?:Exception|Error|Throwable|Failure)\b")
_JAVA_REACH = 5


def mark_java(lines: LineTable) -> int:
    """Marks the line above the first frame and each cause, and the first frame of one's own."""
    count, trace = 0, StackTrace(lines, _JAVA_LIBRARY)
    for i, row in enumerate(lines.rows):
        if "at " in row and _JAVA_FRAME.match(row):
            count += 1
            if trace.message < 0:
                trace.begin(_java_mark_message(lines, i))
            trace.mark_frame(i)
        elif _JAVA_CAUSE.match(row):
            count += 1
            trace.begin(i)
            lines.mark(i, Level.MESSAGE)
        elif _JAVA_MORE.match(row):
            count += 1
            trace.mark_context(i)
        elif row:
            trace.end()
    return count


def _java_mark_message(lines: LineTable, frame: int) -> int:
    """The line above the first frame; a message of several lines begins with the exception."""
    message = mark_message(lines, frame, _JAVA_EXCEPTION, _JAVA_REACH)
    for i in range(message + 1, frame):
        lines.mark(i, Level.DETAIL, i - message, header=message)
    return message


_JAVASCRIPT_FRAME = re.compile(
    r"(?!.*\.(?:rs|go|py|java):)\s+at (?:.+ \()?[^()]*:\d+(?::\d+)?\)?$"
    r"|\s+at (?:async )?.*<anonymous>"
)
_JAVASCRIPT_SOURCE = re.compile(r"(?:file://)?\S+\.[cm]?[jt]sx?:\d+$")
_JAVASCRIPT_LIBRARY = re.compile(r"node_modules|node:|\(internal/|<anonymous>")
_JAVASCRIPT_ERROR = re.compile(r"\b\w*(?:Error|Exception|Rejection)\b")
_JAVASCRIPT_REACH = 12


def mark_javascript(lines: LineTable) -> int:
    """Marks the error above the first frame, and the first frame outside of libraries."""
    count, trace = 0, StackTrace(lines, _JAVASCRIPT_LIBRARY)
    for i, row in enumerate(lines.rows):
        if "at " in row and _JAVASCRIPT_FRAME.match(row):
            count += 1
            if trace.message < 0:
                trace.begin(_javascript_mark_message(lines, i))
            trace.mark_frame(i)
        else:
            if row:
                trace.end()
            if _JAVASCRIPT_SOURCE.match(row):
                count += 1
                _mark_source(lines, i)
    return count


def _javascript_mark_message(lines: LineTable, frame: int) -> int:
    message = mark_message(lines, frame, _JAVASCRIPT_ERROR, _JAVASCRIPT_REACH)
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
            lines.mark(j, Level.DETAIL, j - at, header=at)


_PYTHON_FRAME = re.compile(r'[\s|+E]*File "([^"]+)", line \d+')
_PYTHON_EXCEPTION = re.compile(
    r"[\s|+>]*(?:[a-z_][\w]*\.)*_?[A-Z]\w*"
    r"(?:Error|Exception|Interrupt|Exit|Warning|Iteration|Group|Failure|Timeout)\b(?::|$| \()"
)
_PYTHON_PREFIX = re.compile(r"[\s|+]*")
_PYTHON_LIBRARY = re.compile(
    r"site-packages|dist-packages|/lib/python3|\\Lib\\|^<|/runpy\.py|importlib"
)
_PYTHON_MOST_LINES = 2_000


def mark_python(lines: LineTable) -> int:
    """Marks exceptions as messages, and the last frame outside libraries as their location."""
    count, i = 0, 0
    while i < len(lines):
        row = lines.rows[i]
        if "Traceback (most recent call last)" in row:
            stop = _mark_traceback(lines, i)
            count, i = count + stop - i, stop
        elif _PYTHON_FRAME.match(row):  # a syntax error has a frame and no header
            stop = _mark_traceback(lines, i - 1)
            count, i = count + stop - i, max(stop, i + 1)
        else:
            if _PYTHON_EXCEPTION.match(row) and "Warning" not in row:
                lines.mark(i, Level.MESSAGE)
                count += 1
            i += 1
    return count


def _mark_traceback(lines: LineTable, header: int) -> int:
    """Marks the traceback below a header; returns the line after its exception."""
    frames, i = [], header + 1
    depth = _depth(lines.rows[header], header >= 0)
    last = min(len(lines), header + _PYTHON_MOST_LINES)
    while i < last:
        row = lines.rows[i]
        if _PYTHON_FRAME.match(row):
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
    match = _PYTHON_PREFIX.match(row)
    front = match.end() if match else 0
    is_logged = "Traceback" in row and not row[front:].startswith("Traceback")
    return 0 if is_logged else front


def _is_exception(row: str) -> bool:
    return bool(_PYTHON_EXCEPTION.match(row) or re.match(r"[\s|+]*[\w.]+(?::|$)", row))


def _mark_location(lines: LineTable, frames: list[int]) -> None:
    own = [i for i in frames if not _PYTHON_LIBRARY.search(_path(lines.rows[i]))]
    at = (own or frames)[-1]
    lines.mark(at, Level.LOCATION)
    below = at + 1
    if below < len(lines) and indent_of(lines.rows[below]) > indent_of(lines.rows[at]):
        lines.mark(below, Level.DETAIL, header=at)
    for i in frames:
        if i + 1 < len(lines) and not _PYTHON_FRAME.match(lines.rows[i + 1]):
            lines.put_under(i + 1, i)


def _path(row: str) -> str:
    match = _PYTHON_FRAME.match(row)
    return match.group(1) if match else ""
