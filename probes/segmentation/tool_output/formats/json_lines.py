"""JSON Lines: a value a line; markers are lines that are JSON strings."""

from __future__ import annotations

import re

from tamis.probes.segmentation.json_html import is_json_container
from tamis.probes.segmentation.tool_output.json_parts import json_level
from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.lines_to_parts import parts_of_lines
from tamis.probes.segmentation.tool_output.parts import ParsedOutput

PLACE = 0
_LINE = re.compile(r"[^\n]+")
_LEAST_LINES = 3


def parse(text: str, call: str) -> ParsedOutput | None:
    """The lines of a text of which each is a JSON array or object, or blank."""
    if not text.lstrip().startswith(("{", "[")) or text.count("\n") < _LEAST_LINES - 1:
        return None
    rows = [match.group() for match in _LINE.finditer(text) if match.group().strip()]
    if len(rows) < _LEAST_LINES or not all(is_json_container(row.strip()) for row in rows):
        return None
    lines = LineTable(text, split_redraws=False)
    for i, (start, stop) in enumerate(zip(lines.starts, lines.stops, strict=True)):
        lines.mark(i, json_level(text[start:stop]))
    found = parts_of_lines(lines, "jsonl")
    return ParsedOutput("jsonl", [p._replace(place="json_line") for p in found.parts], found.runs)
