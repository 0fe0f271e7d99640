"""jest, vitest, mocha and node's own test runner: failed tests, the counts."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^[ \t]*(?:✓|✔|✕|✖|×|●|not ok|Tests:|# fail|\d+ passing)", re.M)
_PASSED = re.compile(r"\s*(?:✓|✔|√|ok \d+|# Subtest)\s?")
_FAILED = re.compile(r"\s*(?:✕|✖|×|not ok \d+)\s|\s*● .+ › |\s*● .+|\s*FAIL\s")
_NUMBERED = re.compile(r"\s+\d+\) \S")
_SAID = re.compile(r"\s*(?:Expected|Received|expected|actual|\+ actual|AssertionError|error:)\b.*")
_LAST = re.compile(
    r"\s*(?:Tests:|Test Suites:|Test Files|Snapshots:|Time:|\d+ (?:passing|failing|pending)"
    r"|[#ℹ] (?:pass|fail|tests|cancelled) \d+)"
)


def mark_lines(lines: LineTable) -> int:
    """Marks failed tests and what was expected of them."""
    count, header = 0, -1
    for i, row in enumerate(lines.rows):
        if _LAST.match(row):
            count, header = count + 1, -1
            lines.mark(i, Level.OUTCOME)
        elif _FAILED.match(row):
            count, header = count + 1, i
            lines.mark(i, Level.MESSAGE)
        elif _PASSED.match(row):
            count, header = count + 1, -1
            lines.repeated(i)
        elif _SAID.match(row):
            lines.mark(i, Level.DETAIL)
            if header >= 0:
                lines.put_under(i, header)
        elif _NUMBERED.match(row):
            header = i
            lines.mark(i, Level.DETAIL)
    return count
