"""What any command may print: log records, errors of the shell, exit statuses, last words."""

from __future__ import annotations

import re
from itertools import pairwise

from tamis.text.readers.outputs.line_table import ROW_CHARS, LineTable
from tamis.text.readers.outputs.parts import Level

_TIME = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?|\d\d:\d\d:\d\d"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d{1,2}/[A-Z][a-z]{2}/\d{4}:\d\d|[IWEF]\d{4} \d\d:\d\d|\[ *\d+\.\d{6}\]"
)
TIMES = re.compile(_TIME)
SEVERITY = r"(?:ERROR|WARN(?:ING)?|INFO|DEBUG|FATAL|CRITICAL|TRACE|NOTICE|SEVERE)\b"
_RECORD = re.compile(
    rf"\W{{0,2}}(?:{_TIME})|##\[|(?:[^\s:]+:\d+: )?(?:\[?{SEVERITY}|\[(?:error|warn|info)\])"
    rf"|(?:\S+ ){{1,4}}\W?(?:{_TIME})|[\w.@-]+ *\| *(?:{_TIME})"
    rf"|(?:\w+=(?:\"[^\"]*\"|\S*) +){{0,4}}(?:level|lvl|severity)="
)
_SEVERITY_CHARS = 160
_SEVERE = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|SEVERE|PANIC|EMERG|ALERT|CRIT)\b(?![-=:]? ?0\b)"
    r"|\[(?:error|crit|alert|emerg|fatal)\]"
    r"|\b(?:level|lvl|severity)=\"?(?:err|fatal|crit|panic|alert|emerg)"
    r"|\b(?:FAILED|FAILURE)\b|^[EF]\d{4} "
    r"|^[^a-z]{8,40}\b(?:error|fatal|crit)\b"
)
_WARNING = re.compile(r"\b(?:WARN|WARNING)\b|\[warn(?:ing)?\]|\blevel=\"?warn|^W\d{4} ")
_LEVELLED = re.compile(
    r"\b(?:INFO|DEBUG|TRACE|NOTICE|WARN(?:ING)?)\b|\[(?:info|debug|notice|warn)\]|level=\"?(?:info|debug|warn)"
)
_MORE = re.compile(r"\b(?:DETAIL|HINT|CONTEXT|STATEMENT):  ")
"""What PostgreSQL says further of the record before."""
_HTTP = re.compile(r"\" (\d)\d\d (?:\d+|-)")
_CODE = re.compile(r"\b(?:status|code|HTTP(?:/\d(?:\.\d)?)?)[ =:]{1,3}[45]\d\d\b")
_JOINED_LINES = 3


def mark_log(lines: LineTable) -> int:
    """Marks severe records, and what continues a record; short continuations join it."""
    records = [i for i, row in enumerate(lines.rows) if row and _RECORD.match(row)]
    severe = -2
    for i in records:
        if i not in lines.judged:
            _mark_record(lines, i)
        if severe == i - 1 and _MORE.search(lines.rows[i][:_SEVERITY_CHARS]):
            lines.mark(i, Level.DETAIL)
            severe = i
        elif lines.levels[i] == Level.MESSAGE:
            severe = i
    edges = [*records, len(lines)]
    for record, after in pairwise(edges):
        _continue_record(lines, record, after)
    return len(records)


def _mark_record(lines: LineTable, i: int) -> None:
    front = lines.rows[i][:_SEVERITY_CHARS]
    milder = _LEVELLED.search(front)
    severe = _SEVERE.search(front)
    if severe and not (milder and milder.start() < severe.start()):
        lines.mark(i, Level.MESSAGE)
    elif severe or _WARNING.search(front) or _CODE.search(lines.rows[i]):
        lines.mark(i, Level.WARNING)
    elif match := _HTTP.search(lines.rows[i]):
        if match.group(1) == "5":
            lines.mark(i, Level.DETAIL)
        elif match.group(1) == "4":
            lines.mark(i, Level.WARNING)


def _continue_record(lines: LineTable, record: int, after: int) -> None:
    """Indented lines behind a record are shown with it."""
    stop = record + 1
    while stop < after and (
        lines.rows[stop][:1].isspace() or lines.rows[stop][:1] in ("}", "]", ")")
    ):
        stop += 1
    is_short = stop - record - 1 <= _JOINED_LINES
    for i in range(record + 1, stop):
        if is_short and lines.levels[i] == Level.ORDINARY and lines.headers[i] < 0:
            lines.joined[i] = True
        else:
            is_short = False
            lines.put_under(i, record)
    if stop < after and "Traceback (most recent call last)" in lines.rows[stop]:
        lines.put_under(stop, record)


_ERROR = re.compile(
    r"(?:[\w./+-]+: )?(?:\w+ )?(?:[Ee]rror|ERROR|FATAL|fatal|panic"
    r"|Fatal error|Unhandled \w+)(?:\[\w+\])?: \S"
    r"|(?:E|W|Err|WARN): \S|[Ee]xception: |Segmentation fault|Aborted|Killed$|core dumped"
    r"|[>\s]*(?:[\w$]+\.)+[A-Z]\w*(?:Error|Exception): "
    r"|(?:bash|sh|zsh|/bin/\w+|\S+\.sh): (?:line \d+: )?.*: (?:command )?not found"
)
_SAID = re.compile(
    r": (?:No such file or directory|Permission denied|command not found|not found|Is a directory"
    r"|cannot access .*|Connection (?:refused|timed out|reset.*)|Operation not permitted"
    r"|No space left on device|Address already in use|Device or resource busy)\.?(?: \([\w ]+\))?$"
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


_ILL = re.compile(
    r"(?i)\b(?:not ok|unhealthy|degraded|unreachable|(?:[:=]|is) *\"?(?:down"
    r"|(CrashLoopBackOff|ImagePullBackOff|ErrImagePull|OOMKilled|Evicted)))\b"
)
_ERRORS_BELOW = re.compile(r"\W*(?:ERRORS?|[Ee]rrors?|FAILURES?|[Ff]ailures?)\W*:\s*")
_MOST_BELOW = 10
_FAR_ERROR = re.compile(
    r"\b(?:[Ee]rror|ERROR|FATAL|fatal|panic|\w{1,60}(?:Error|Exception))(?:\[\w+\])?: \S"
)
"""An error beyond the front of a line, which is all that the other patterns see."""


def mark_shell(lines: LineTable) -> int:
    """Marks what looks like an error or the exit status; recognises no format."""
    _mark_below(lines)
    may_be_ill = bool(_ILL.search(lines.text))
    for i, row in enumerate(lines.rows):
        if may_be_ill and (ill := _ILL.search(row)):
            lines.mark(i, Level.MESSAGE if ill[1] else Level.WARNING)
        if ":" in row and (_ERROR.match(row) or _SAID.search(row[-120:])):
            lines.mark(i, Level.MESSAGE)
        elif "xit" in row or "eturn" in row or "rc=" in row:
            if _EXIT.match(row):
                lines.mark(i, Level.OUTCOME)
        elif row[:1] in "C<>!=S" and _CONFLICT.match(row):
            lines.mark(i, Level.MESSAGE)
        elif row.startswith(("Segmentation fault", "Aborted", "Killed")):
            lines.mark(i, Level.MESSAGE)
        far = lines.starts[i] + ROW_CHARS
        if far < lines.stops[i] and not _RECORD.match(row):
            if _FAR_ERROR.search(lines.text, far, lines.stops[i]):
                lines.mark(i, Level.MESSAGE)
    _mark_last(lines)
    return 0


def _mark_below(lines: LineTable) -> None:
    """The lines under `ERRORS:` are errors, as far as they begin as the first one does."""
    for heading, row in enumerate(lines.rows):
        if len(row) > 20 or ":" not in row or not _ERRORS_BELOW.fullmatch(row):
            continue
        below = range(heading + 1, min(len(lines), heading + 2 + _MOST_BELOW))
        first = next((i for i in below[:2] if lines.rows[i].strip()), None)
        if first is None:
            continue
        for i in below[below.index(first) :]:
            if lines.rows[i][:1] not in (lines.rows[first][:1], " ", "\t"):
                break
            lines.mark(i, Level.MESSAGE if i == first else Level.DETAIL)


def _mark_last(lines: LineTable) -> None:
    """The last line that counts errors is the outcome."""
    for i in range(len(lines) - 1, max(-1, len(lines) - 6), -1):
        if _FEW_ERRORS.search(lines.rows[i]):
            lines.mark(i, Level.OUTCOME)
            return
