"""Logs: records with a time or a severity, and the lines that continue them."""

from __future__ import annotations

import re
from itertools import pairwise

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

IS_GENERAL = True
PLACE = 1
HINT = re.compile(
    r"\b(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL|CRITICAL|TRACE|NOTICE|SEVERE|error|err|warn|info|crit)\b"
    r"|^\W?\d{4}-\d\d-\d\d[T ]|^\d\d:\d\d:\d\d",
    re.M,
)
_TIME = (
    r"\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d(?::\d\d)?|\d\d:\d\d:\d\d"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
    r"|\d{1,2}/[A-Z][a-z]{2}/\d{4}:\d\d|[IWEF]\d{4} \d\d:\d\d|\[ *\d+\.\d{6}\]"
)
_RECORD = re.compile(
    rf"\W{{0,2}}(?:{_TIME})|\[?(?:ERROR|WARN(?:ING)?|INFO|DEBUG|FATAL|CRITICAL|TRACE|NOTICE|SEVERE)\b"
    rf"|(?:\S+ ){{1,4}}\W?(?:{_TIME})|[\w.@-]+ *\| *(?:{_TIME})"
)
_SEVERITY_CHARS = 160
_SEVERE = re.compile(
    r"\b(?:ERROR|FATAL|CRITICAL|SEVERE|PANIC|EMERG|ALERT|CRIT)\b(?![-=:]? ?0\b)"
    r"|\[(?:error|crit|alert|emerg|fatal)\]"
    r"|\blevel=\"?(?:error|fatal|critical|panic)|\b(?:FAILED|FAILURE)\b|^[EF]\d{4} "
    r"|^[^a-z]{8,40}\b(?:error|fatal|crit)\b"
)
_WARNING = re.compile(r"\b(?:WARN|WARNING)\b|\[warn(?:ing)?\]|\blevel=\"?warn|^W\d{4} ")
_LEVELLED = re.compile(
    r"\b(?:INFO|DEBUG|TRACE|NOTICE|WARN(?:ING)?)\b|\[(?:info|debug|notice|warn)\]|level=\"?(?:info|debug|warn)"
)
_HTTP = re.compile(r"\" (\d)\d\d (?:\d+|-)")
_JOINED_LINES = 3


def mark_lines(lines: LineTable) -> int:
    """Marks severe records, and what continues a record; short continuations join it."""
    records = [i for i, row in enumerate(lines.rows) if row and _RECORD.match(row)]
    for i in records:
        if i not in lines.judged:
            _mark_record(lines, i)
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
    elif severe or _WARNING.search(front):
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
