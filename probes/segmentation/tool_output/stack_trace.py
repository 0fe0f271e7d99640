"""What stack traces of several languages share: a message, and frames below it."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level


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
        self.lines.mark(i, Level.CONTEXT, i - self.message)
        self.lines.put_under(i, self.message)


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
