"""Maven and Gradle: errors, tests, `BUILD FAILURE`, without Maven's advice."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(r"^\[(?:INFO|ERROR|WARNING)\] |^> Task :|^BUILD (?:FAILED|SUCCESSFUL)", re.M)
_ADVICE = re.compile(
    r"\[ERROR\] *(?:$|-> \[Help|Re-run Maven|To see the full|For more information|\[Help \d+\]"
    r"|After correcting|Please refer|See https?:|See dump)"
)
_LAST = re.compile(
    r"(?:\[\w+\] )?(?:BUILD (?:FAIL|SUCCESS)|Tests run: \d+, .*(?<!s)$|Total time:)|\d+ actionable"
)
_GRADLE = re.compile(r"\* What went wrong|> Task \S+ FAILED|(?>.*? > ).* FAILED$|FAILURE: ")
_PROGRESS = re.compile(
    r"\[INFO\] *(?:Download(?:ing|ed)|$|-+)|Download(?:ing|ed)"
    r"|> Task \S+(?: UP-TO-DATE| NO-SOURCE)?$|Progress \("
)


def mark_lines(lines: LineTable) -> int:
    """Marks `[ERROR]` lines once each: Maven repeats them."""
    count, seen = 0, set()
    for i, row in enumerate(lines.rows):
        if _LAST.match(row):
            lines.mark(i, Level.OUTCOME if "Time elapsed" not in row else Level.DETAIL)
            count += 1
        elif row.startswith("[ERROR]"):
            count += 1
            lines.judged.add(i)
            if not _ADVICE.match(row):
                lines.mark(i, Level.DETAIL if row in seen else Level.MESSAGE)
            seen.add(row)
        elif row.startswith("[WARNING]"):
            count += 1
            lines.mark(i, Level.WARNING)
        elif _GRADLE.match(row):
            count += 1
            lines.mark(i, Level.MESSAGE)
        elif _PROGRESS.match(row):
            count += 1
            lines.repeated(i)
        elif row.startswith("[INFO]"):
            count += 1
    return count
