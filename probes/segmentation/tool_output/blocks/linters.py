"""ruff, flake8, pylint: `file:line:column: F821 ...`, and findings with their source below."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^ +--> \S|:\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b", re.M)
_CONCISE = re.compile(r"\S[^:]*:\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b")
_FINDING = re.compile(r"[A-Z]{1,4}\d{2,4} |[\w-]+: \[?\*?\]? ?[A-Z]|invalid-syntax")
_PLACE = re.compile(r" +--> \S+:\d+:\d+")
_SOURCE = re.compile(r"\s*(?:\d+\s*)?[|+-]|\s*\d+ |help: |\s*\.\.\.$")
_LAST = re.compile(r"Found \d+ errors?|All checks passed|Your code has been rated")


def mark_lines(lines: LineTable) -> int:
    """Marks findings, their places, and what stands below them."""
    count, header = 0, -1
    for i, row in enumerate(lines.rows):
        if _CONCISE.match(row):
            count, header = count + 1, -1
            lines.mark(i, Level.MESSAGE)
        elif _LAST.match(row):
            lines.mark(i, Level.OUTCOME)
        elif i and _PLACE.match(row) and _FINDING.match(lines.rows[i - 1]):
            count, header = count + 2, i - 1
            lines.mark(header, Level.MESSAGE)
            lines.mark(i, Level.LOCATION)
            lines.put_under(i, header)
        elif header >= 0 and _SOURCE.match(row):
            count += 1
            lines.put_under(i, header)
            lines.mark(i, Level.CONTEXT, i - header)
            if "^" in row and i - header > 2:  # under the source that is meant
                lines.mark(i - 1, Level.DETAIL)
        elif row:
            header = -1
    return count
