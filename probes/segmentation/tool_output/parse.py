"""Finds the format of what a tool printed, and its parts."""

from __future__ import annotations

from tamis.probes.segmentation.tool_output.parts import ParsedOutput, Part


def parse_tool_output(text: str, call: str = "") -> ParsedOutput:
    """The parts of a text; takes time linear in its length.

    Args:
        text: any string.
        call: the tool's name and arguments, a hint for the format.
    """
    parts, at = [], 0
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        parts.append(Part(at, at + len(line), number, number))
        at += len(line)
    return ParsedOutput("text", parts)
