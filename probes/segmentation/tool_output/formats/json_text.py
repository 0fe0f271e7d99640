"""JSON, alone or below a status line: elements and members; what is kept with markers is JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from tamis.probes.segmentation.tool_output.json_parts import JsonParts, json_tree
from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parse import parse_lines
from tamis.probes.segmentation.tool_output.parts import ParsedOutput, Part

PLACE = 1
_START = re.compile(r"^[ \t]*([\[{])", re.M)
_ATTEMPTS = 3
_LEAST_SHARE = 0.5
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def parse(text: str, call: str) -> ParsedOutput | None:
    """The parts of a text that is mostly one JSON array or object."""
    found = _find_json(text)
    if found is None:
        return None
    start, stop, value = found
    parts: list[Part] = []
    _add_lines(parts, text, 0, start)
    JsonParts(text, parts).add_root(json_tree(text, start, stop), value)
    _add_lines(parts, text, stop, len(text))
    is_notebook = isinstance(value, dict) and "cells" in value and "nbformat" in value
    return ParsedOutput("notebook" if is_notebook else "json", parts)


def _find_json(text: str) -> tuple[int, int, Any] | None:
    """The span of the first array or object that is at least half of the text, and its value."""
    for attempt, match in enumerate(_START.finditer(text)):
        if attempt == _ATTEMPTS:
            return None
        start = match.start(1)
        if len(text) - start < _LEAST_SHARE * len(text):
            return None
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if stop - start >= _LEAST_SHARE * len(text.rstrip()) and value:
            return start, stop, value
    return None


def _add_lines(parts: list[Part], text: str, start: int, stop: int) -> None:
    """The lines before or after the JSON; white space alone is no part."""
    if not text[start:stop].strip():
        return
    found = parse_lines(LineTable(text[start:stop])).parts
    above, base = text.count("\n", 0, start), len(parts)
    for part in found:
        parts.append(
            part._replace(
                start=part.start + start,
                stop=part.stop + start,
                first=part.first + above,
                last=part.last + above,
                needs=tuple(j + base for j in part.needs),
                run=-1,
            )
        )
