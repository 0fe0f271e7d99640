"""docker build: steps, the one that failed, where in the Dockerfile."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^#\d+ |^Step \d+/\d+ : |^(?:ERROR: )?failed to solve", re.M)
_OF_STEP = re.compile(r"#(\d+) ")
_ERROR = re.compile(
    r"#\d+ ERROR|(?:ERROR: )?failed to (?:solve|build)|The command '.*' returned a non-zero|ERROR: "
)
_DONE = re.compile(
    r"#\d+ (?:DONE|CACHED|sha256:|extracting|transferring|resolve|exporting|writing|naming)"
)
_FILE = re.compile(r"(?>\S*?Dockerfile)\S*:\d+")
_BROKEN = re.compile(r"\s*\d+ \| >>> ")
_CLASSIC = re.compile(r"Step (\d+)/\d+ : ")


def mark_lines(lines: LineTable) -> int:
    """Marks errors and the failed instruction; what a step printed is shown under the step."""
    steps: dict[str, int] = {}
    count, classic = 0, -1
    for i, row in enumerate(lines.rows):
        _mark_failure(lines, i, row)
        if match := _OF_STEP.match(row):
            count += 1
            _put_under_step(lines, i, row, steps.setdefault(match.group(1), i))
        elif _CLASSIC.match(row):
            count, classic = count + 1, i
        elif classic >= 0 and row:
            lines.put_under(i, classic)
            count += 1
    return count


def _mark_failure(lines: LineTable, i: int, row: str) -> None:
    if _ERROR.match(row):
        lines.mark(i, Level.MESSAGE)
    elif _BROKEN.match(row):
        lines.mark(i, Level.DETAIL)
    elif _FILE.match(row):
        lines.mark(i, Level.LOCATION)


def _put_under_step(lines: LineTable, i: int, row: str, step: int) -> None:
    lines.put_under(i, step)
    if _DONE.match(row):
        lines.repeated(i)
