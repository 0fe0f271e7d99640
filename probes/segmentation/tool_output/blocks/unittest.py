"""Python's unittest: failures with their tracebacks, the count, `FAILED (failures=2)`."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^Ran \d+ tests? in |^(?:FAIL|ERROR): \w+ \(", re.M)
_FAILURE = re.compile(r"(?:FAIL|ERROR|UNEXPECTED SUCCESS): \w+.*")
_VERBOSE = re.compile(r".* \.\.\. (ok|FAIL|ERROR|skipped.*|expected failure|unexpected success)$")
_RULE = re.compile(r"[=-]{70}$")


def mark_lines(lines: LineTable) -> int:
    """Marks each failure's name, and the outcome; what lies below a name is shown under it."""
    count, header = 0, -1
    for i, row in enumerate(lines.rows):
        if _FAILURE.match(row):
            header, count = i, count + 1
            lines.mark(i, Level.MESSAGE)
        elif row.startswith("======") and _RULE.match(row):
            header, count = -1, count + 1
        elif row.startswith("Ran ") and " in " in row:
            header, count = -1, count + 1
            lines.mark(i, Level.OUTCOME)
        elif row.startswith(("FAILED (", "OK")) and (row == "OK" or row.endswith(")")):
            lines.mark(i, Level.OUTCOME)
        elif match := _VERBOSE.match(row):
            count += 1
            if match.group(1) in ("FAIL", "ERROR"):
                lines.mark(i, Level.CONTEXT)
            elif match.group(1) == "ok":
                lines.repeated(i)
        elif header >= 0 and row and not _RULE.match(row):
            lines.put_under(i, header)
            count += 1
    return count
