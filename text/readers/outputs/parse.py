"""Finds the format of what a tool printed, and its parts; of pages of HTML their elements."""

from __future__ import annotations

import re
from bisect import bisect
from itertools import accumulate

from tamis.text.readers.outputs import json_parts, listings, table
from tamis.text.readers.outputs.blocks import parse_lines, parse_whole
from tamis.text.readers.outputs.line_table import LineTable, WholeText
from tamis.text.readers.outputs.parts import LAST_PROTECTED, Level, ParsedOutput, Part
from tamis.text.readers.xml_html import html_marks

LINE_CHARS = 500
"""Longer lines are cut between elements."""
_PAGE = re.compile(r"\s*(?:<!DOCTYPE html|<html\b|<\?xml[^>]{0,200}\?>\s*<!DOCTYPE html)", re.I)
_UNREAD = re.compile(r"<(?:script|style|link|meta|svg|path|noscript)\b", re.I)
_FAULT = re.compile(r"<(?:title|h1)[^>]{0,200}>[^<]{0,80}(?:\b[45]\d\d\b|error|exception)", re.I)
_END = re.compile(r"</html>[ \t]*\n?", re.I)
_BESIDE = re.compile(r"</\w+>[ \t]*\n((?:(?![ \t]*<)(?:.+\n?|\n))+)")
_HEADING = re.compile(r"<(?:h[1-3]|title)\b", re.I)


def parse_html(text: str, call: str) -> ParsedOutput | None:
    """The elements of a page; its scripts and styles go last."""
    if not _PAGE.match(text):
        return None
    starts = {0, *(_line_start(text, at) for at, _ in html_marks(text))}
    if len(starts) < 2:
        return None
    loose = _failures_beside(text)
    starts -= {at for first, stop in loose.items() for at in starts if first < at < stop}
    edges = sorted({*starts, *loose, *loose.values()} - {len(text)})
    parts: list[Part] = []
    for ordinal, (start, stop) in enumerate(zip(edges, [*edges[1:], len(text)], strict=True), 1):
        if start in loose:
            json_parts.add_lines(parts, text, start, stop)
            continue
        level = _level(text[start : start + 500])
        parts.append(Part(start, stop, ordinal, ordinal, level, "elements"))
    return ParsedOutput("html", parts)


def _failures_beside(text: str) -> dict[int, int]:
    """Where lines between the elements of a page, or below it, say that something failed: start to
    stop."""
    below = max((match.end() for match in _END.finditer(text)), default=len(text))
    spans = [match.span(1) for match in _BESIDE.finditer(text, 0, below)]
    spans.append((below, len(text)))
    fronts = list(accumulate((stop - start + 1 for start, stop in spans), initial=0))
    found = parse_lines(LineTable("\n".join(text[start:stop] for start, stop in spans)))
    failed = {bisect(fronts, p.start) - 1 for p in found.parts if p.level <= LAST_PROTECTED}
    return dict(spans[n] for n in failed)


def _line_start(text: str, at: int) -> int:
    """Where the line begins, so that no line is broken, unless the page hardly has lines."""
    start = text.rfind("\n", max(0, at - LINE_CHARS), at) + 1
    return start if start or at <= LINE_CHARS else at


def _level(front: str) -> Level:
    if _FAULT.search(front):
        return Level.MESSAGE
    if _UNREAD.match(front.lstrip()):
        return Level.REPEATED
    return Level.CONTEXT if _HEADING.search(front) else Level.ORDINARY


FORMATS = (
    json_parts.parse_json_lines,
    json_parts.parse_json,
    parse_html,
    listings.parse_diff,
    listings.parse_status,
    table.parse_table,
    listings.parse_listing,
    listings.parse_grep,
)
"""What is recognised in a whole text, the strictest first: its parts, or its marked lines."""


def parse_tool_output(text: str, call: str = "") -> ParsedOutput:
    """The parts of a text; takes time linear in its length.

    Args:
        text: any string.
        call: the tool's name and arguments, a hint for formats that look like others.
    """
    for parse in FORMATS:
        if (parsed := parse(text, call)) is not None:
            return parse_whole(parsed) if isinstance(parsed, WholeText) else parsed
    return parse_lines(LineTable(text))
