"""npm and yarn: `npm error` lines, deprecations, what was added."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(
    r"^npm (?:ERR!|error|warn|WARN|notice|http|verb)|^added \d+ packages|^error Command failed",
    re.M,
)
_ERROR = re.compile(r"npm (?:ERR!|error)(.*)")
_KEY = re.compile(
    r" (?:code|syscall|errno|path|command|\d{3}|Could not|Conflicting|Found|Missing"
    r"|No matching|Cannot|[A-Z]\w*Error|Lifecycle|Invalid|Unsupported|peer )"
)
_UNRESOLVED = re.compile(r"npm (?:warn|WARN) (?:ERESOLVE|Could not|Conflicting|peer |Found: )")
_ADVICE = re.compile(
    r" (?:A complete log|\s*/.*-debug|this command with|For a full report|Fix the upstream)"
)
_LAST = re.compile(
    r"(?:added|removed|changed|up to date|audited|found) .*|\d+ (?:\w+ )*severity|Done in "
)


def mark_lines(lines: LineTable) -> int:
    """Marks what npm says went wrong, its code first."""
    count = 0
    for i, row in enumerate(lines.rows):
        if match := _ERROR.match(row):
            count += 1
            said = match.group(1)
            if _KEY.match(said):
                lines.mark(i, Level.MESSAGE)
            elif said.strip() and not _ADVICE.match(said):
                lines.mark(i, Level.DETAIL)
        elif row.startswith(("npm warn", "npm WARN", "warning ")):
            count += 1
            lines.mark(i, Level.DETAIL if _UNRESOLVED.match(row) else Level.WARNING)
        elif row.startswith("npm http"):
            count += 1
            lines.repeated(i)
        elif row.startswith(("npm ", "> ")):
            count += 1
        elif row.startswith("error "):
            lines.mark(i, Level.MESSAGE)
        elif _LAST.match(row):
            lines.mark(i, Level.OUTCOME)
    return count
