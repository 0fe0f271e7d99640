"""Finds the format of what a tool printed, and its parts; of pages of HTML their elements."""

from __future__ import annotations

import re

from tamis.text.readers.outputs import json_parts, listings, table
from tamis.text.readers.outputs.blocks import parse_lines
from tamis.text.readers.outputs.line_table import LineTable
from tamis.text.readers.outputs.parts import Level, ParsedOutput, Part
from tamis.text.readers.xml_html import html_marks

LINE_CHARS = 500
"""Longer lines are cut between elements."""
_PAGE = re.compile(r"\s*(?:<!DOCTYPE html|<html\b|<\?xml[^>]{0,200}\?>\s*<!DOCTYPE html)", re.I)
_UNREAD = re.compile(r"<(?:script|style|link|meta|svg|path|noscript)\b", re.I)
_FAULT = re.compile(r"<(?:title|h1)[^>]{0,200}>[^<]{0,80}(?:\b[45]\d\d\b|error|exception)", re.I)
_HEADING = re.compile(r"<(?:h[1-3]|title)\b", re.I)


def parse_html(text: str, call: str) -> ParsedOutput | None:
    """The elements of a page; its scripts and styles go last."""
    if not _PAGE.match(text):
        return None
    starts = sorted({0, *(_line_start(text, at) for at, _ in html_marks(text))})
    if len(starts) < 2:
        return None
    parts = []
    for ordinal, (start, stop) in enumerate(zip(starts, [*starts[1:], len(text)], strict=True), 1):
        level = _level(text[start : start + 500])
        parts.append(Part(start, stop, ordinal, ordinal, level, "elements"))
    return ParsedOutput("html", parts)


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
    listings.parse_diff,
    listings.parse_status,
    table.parse_table,
    listings.parse_listing,
    listings.parse_grep,
    parse_html,
)
"""What is recognised in a whole text, the strictest first: the parts of a text, or None."""


def parse_tool_output(text: str, call: str = "") -> ParsedOutput:
    """The parts of a text; takes time linear in its length.

    Args:
        text: any string.
        call: the tool's name and arguments, a hint for formats that look like others.
    """
    for parse in FORMATS:
        if (parsed := parse(text, call)) is not None:
            return parsed
    return parse_lines(LineTable(text))
