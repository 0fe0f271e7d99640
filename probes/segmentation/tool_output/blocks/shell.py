"""What any command may say: errors of the shell, exit statuses, last words."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

IS_GENERAL = True
PLACE = 1
HINT = re.compile("")
_ERROR = re.compile(
    r"(?:[\w./+-]+: )?(?:\w+ )?(?:[Ee]rror|ERROR|FATAL|fatal|panic"
    r"|Fatal error|Unhandled \w+)(?:\[\w+\])?: \S"
    r"|(?:E|W|Err|WARN): \S|[Ee]xception: |Segmentation fault|Aborted|Killed$|core dumped"
    r"|(?:bash|sh|zsh|/bin/\w+|\S+\.sh): (?:line \d+: )?.*: (?:command )?not found"
)
_SAID = re.compile(
    r": (?:No such file or directory|Permission denied|command not found|not found|Is a directory"
    r"|cannot access .*|Connection (?:refused|timed out|reset.*)|Operation not permitted"
    r"|No space left on device|Address already in use|Device or resource busy)\.?$"
)
_CONFLICT = re.compile(
    r"CONFLICT \(|(?:<{7}|>{7}|={7})(?: |$)|error: |fatal: |! \[rejected\]|hint: "
)
_EXIT = re.compile(
    r"(?i)\W*(?:(?:process|command|script|container|job)\b.{0,60}\b)?(?:exit(?:ed)?|return(?:ed)?)"
    r"(?:(?: with)?(?: a)?(?: non-zero)?(?: exit)?(?: code| status| value))(?: of)?\W{0,3}-?\d+"
    r"|\W*exit status \d+|.{0,80}\bexit(?:ed)?(?: with)? (?:code|status)[:= ]+[1-9]\d*|rc=\d+$"
)
_FEW_ERRORS = re.compile(
    r"(?<!\d)\d+ (?:errors?|failures?)\b|(?:errors?|failures?|failed)[:=] *\d+"
)


def mark_lines(lines: LineTable) -> int:
    """Marks what looks like an error or the exit status; recognises no format."""
    for i, row in enumerate(lines.rows):
        if ":" in row and (_ERROR.match(row) or _SAID.search(row[-120:])):
            lines.mark(i, Level.MESSAGE)
        elif "xit" in row or "eturn" in row or "rc=" in row:
            if _EXIT.match(row):
                lines.mark(i, Level.OUTCOME)
        elif row[:1] in "C<>!=S" and _CONFLICT.match(row):
            lines.mark(i, Level.MESSAGE)
        elif row.startswith(("Segmentation fault", "Aborted", "Killed")):
            lines.mark(i, Level.MESSAGE)
    _mark_last(lines)
    return 0


def _mark_last(lines: LineTable) -> None:
    """The last line that counts errors is the outcome."""
    for i in range(len(lines) - 1, max(-1, len(lines) - 6), -1):
        if _FEW_ERRORS.search(lines.rows[i]):
            lines.mark(i, Level.OUTCOME)
            return
