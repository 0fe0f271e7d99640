"""Finds the format of what a tool printed, and its parts.

The folders are the registry: a file in `formats/` recognises a whole text, a file in `blocks/`
recognises lines anywhere in a text of lines.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.lines_to_parts import parts_of_lines
from tamis.probes.segmentation.tool_output.parts import ParsedOutput

_PACKAGE = "tamis.probes.segmentation.tool_output"
_LEAST_SHARE, _FAIR_SHARE = 0.02, 0.3
"""Of its lines that a text is named after."""


def parse_tool_output(text: str, call: str = "") -> ParsedOutput:
    """The parts of a text; takes time linear in its length.

    Args:
        text: any string.
        call: the tool's name and arguments, a hint for formats that look like others.
    """
    for module in registered("formats"):
        parsed: ParsedOutput | None = module.parse(text, call)
        if parsed is not None:
            return parsed
    return parse_lines(LineTable(text))


def parse_lines(lines: LineTable) -> ParsedOutput:
    """The parts of lines, by what the files in `blocks/` recognise."""
    return parts_of_lines(lines, mark_blocks(lines))


def mark_blocks(lines: LineTable) -> str:
    """Marks what all files in `blocks/` recognise; the name of the one that recognised most.

    One that is general (a log) gives its name where none of the others has a fair share.
    """
    counts = {
        module: module.mark_lines(lines)
        for module in registered("blocks")
        if module.HINT.search(lines.text)
    }
    special = {m: count for m, count in counts.items() if not getattr(m, "IS_GENERAL", False)}
    for found, share in ((special, _FAIR_SHARE), (counts, _LEAST_SHARE)):
        best = max(found, key=found.__getitem__, default=None)
        if best is not None and found[best] > share * len(lines):
            return _name(best)
    return "text"


@cache
def registered(folder: str) -> Sequence[ModuleType]:
    """The modules of a folder, by their `PLACE` and name."""
    files = sorted((Path(__file__).parent / folder).glob("*.py"))
    modules = [
        importlib.import_module(f"{_PACKAGE}.{folder}.{file.stem}")
        for file in files
        if not file.stem.startswith("_")
    ]
    return sorted(modules, key=lambda module: (getattr(module, "PLACE", 0), module.__name__))


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2]
