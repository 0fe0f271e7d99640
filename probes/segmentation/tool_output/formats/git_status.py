"""git status: files under the heading that says what is the matter with them."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.blocks import shell
from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.lines_to_parts import parts_of_lines
from tamis.probes.segmentation.tool_output.parts import Level, ParsedOutput

PLACE = 3
_STATUS = re.compile(
    r"^(?:On branch |HEAD detached |Changes (?:to be committed|not staged)|Untracked files:)", re.M
)
_HEADING = re.compile(r"(?:Changes|Untracked files|Unmerged paths|Ignored files).*:$")
_CONFLICT = re.compile(r"\t(?:both|deleted by|added by) ")


def parse(text: str, call: str) -> ParsedOutput | None:
    """The lines of `git status`."""
    if len(_STATUS.findall(text)) < 2:
        return None
    lines, heading = LineTable(text), -1
    for i, row in enumerate(lines.rows):
        if _HEADING.match(row):
            heading = i
            lines.mark(i, Level.CONTEXT)
        elif row.startswith("  (use "):
            lines.repeated(i)
        elif row.startswith("\t") and heading >= 0:
            lines.put_under(i, heading)
            if _CONFLICT.match(row):
                lines.mark(i, Level.MESSAGE)
        elif row.startswith(
            ("On branch", "HEAD detached", "Your branch", "nothing to", "no changes")
        ):
            lines.mark(i, Level.OUTCOME)
        elif row:
            heading = -1
    shell.mark_lines(lines)
    return parts_of_lines(lines, "git status", "lines")
