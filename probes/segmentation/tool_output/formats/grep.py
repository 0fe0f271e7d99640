"""grep, rg, git grep: hits with their file, in front of each or on a line above."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.lines_to_parts import parts_of_lines
from tamis.probes.segmentation.tool_output.parts import Level, ParsedOutput

PLACE = 6
_HIT = re.compile(r"(?![\s\[({<\"']|\d{4}[-/]\d\d|\d\d:\d\d|https?:)([^:\0]{1,300}?)[:-](\d+)[:-]")
_DIAGNOSTIC = re.compile(
    r"\S[^:]*:\d+:(?:\d+:)? (?:(?:fatal )?error|warning|note|info|[A-Z]{1,4}\d{2,4})\b"
)
_PLAIN_HIT = re.compile(r"[\w@+-]*[./][\w./@+-]{0,300}[:-]\d+[:-]")
_NAMED = re.compile(r"((?!\s)[\w./@+-]{1,300}\.\w{1,12}|[\w.@+-]*/[\w./@+-]{1,300}):(?!//)")
_UNDER = re.compile(r"\d+[:-]")
_FILE = re.compile(r"[\w./@+~-][^:\s]{0,300}$")
_CALL = re.compile(r"\b(?:grep|rg|ag|ack|egrep|ripgrep|Grep)\b", re.I)
_FAULT = re.compile(r"(?:grep|rg|\S+): .*(?:No such file|Permission denied|Is a directory|regex)")
_LEAST_SHARE = 0.8
_FEW = 3


def parse(text: str, call: str) -> ParsedOutput | None:
    """The lines of a text of which nearly all are hits; without a call by grep, more strictly."""
    is_called = bool(_CALL.search(call))
    front = text[:4_000].splitlines()[:40]
    if not is_called and not any(_PLAIN_HIT.match(row) or _UNDER.match(row) for row in front):
        return None
    lines = LineTable(text, split_redraws=False)
    written = [row for row in lines.rows if row and row != "--"]
    hits = sum(_is_hit(row, is_called) for row in written)
    if len(written) >= _FEW and hits >= (0.5 if is_called else _LEAST_SHARE) * len(written):
        _mark_hits(lines)
        return parts_of_lines(lines, "grep")
    under = sum(bool(_UNDER.match(row)) for row in written)
    if under >= (0.5 if is_called else _LEAST_SHARE) * max(_FEW, len(written) - 1):
        return _under_files(lines)
    return None


def _is_hit(row: str, is_called: bool) -> bool:
    if is_called:
        return bool(_HIT.match(row) or _NAMED.match(row))
    return bool(_PLAIN_HIT.match(row) and _HIT.match(row) and not _DIAGNOSTIC.match(row))


def _mark_hits(lines: LineTable) -> None:
    """The first hit of each file goes before its others; lines around hits last."""
    seen: set[str] = set()
    for i, row in enumerate(lines.rows):
        match = _HIT.match(row) or _NAMED.match(row)
        if _FAULT.match(row):
            lines.mark(i, Level.MESSAGE)
        elif match is not None and match.group(1) not in seen:
            seen.add(match.group(1))
            lines.mark(i, Level.WARNING)
        elif row == "--" or (match is not None and row[match.end(1)] == "-"):
            lines.repeated(i)


def _under_files(lines: LineTable) -> ParsedOutput | None:
    file, files = -1, 0
    for i, row in enumerate(lines.rows):
        if _UNDER.match(row) or row == "--":
            if file >= 0:
                lines.put_under(i, file)
                lines.mark(i, Level.WARNING if i == file + 1 else Level.ORDINARY)
        elif row and _FILE.match(row):
            file, files = i, files + 1
        elif row:
            file = -1
    return parts_of_lines(lines, "grep") if files else None
