"""Finds the format of what a tool printed, and its parts."""

from __future__ import annotations

from tamis.probes.segmentation.tool_output import git, html, json_parts, listings, table
from tamis.probes.segmentation.tool_output.blocks import parse_lines
from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import ParsedOutput

FORMATS = (
    json_parts.parse_json_lines,
    json_parts.parse_json,
    git.parse_diff,
    git.parse_status,
    table.parse_table,
    listings.parse_listing,
    listings.parse_grep,
    html.parse_html,
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
