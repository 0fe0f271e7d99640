"""ls -R, ls -l, tree, find: entries under their folder."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.blocks import shell
from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.lines_to_parts import parts_of_lines
from tamis.probes.segmentation.tool_output.parts import Level, ParsedOutput

PLACE = 5
_FOLDER = re.compile(r"(?:\.{0,2}/|[\w.~@+-])[^:|\t]{0,400}:$")
_LONG = re.compile(r"(?:total \d|[bcdlps-][rwxsStT-]{9}[.+@]?\s)")
_BRANCH = re.compile(r"((?:[│|]   |[│|]\xa0\xa0 |    )*)(?:├──|└──|\|--|`--|\+--|├─|└─) ")
_PATH = re.compile(r"(?:\.{1,2}/|/|\./)?[\w.@+~-][^\s:|<>\"']*$|\.$")
_FAULT = re.compile(r"(?:ls|find|tree|du): ")
_CALL = re.compile(r"\b(?:ls|find|tree|fd|glob|dir|LS|list_dir\w*|list_files|Glob)\b")
_COUNT = re.compile(r"\d+ director(?:y|ies)")
_LEAST_SHARE = 0.9
_FEW = 5


def parse(text: str, call: str) -> ParsedOutput | None:
    """The lines of a listing."""
    lines = LineTable(text, split_redraws=False)
    written = [row for row in lines.rows if row]
    if len(written) < _FEW:
        return None
    if sum(bool(_BRANCH.match(row)) for row in written) >= _LEAST_SHARE * (len(written) - 2):
        return _tree(lines)
    folders = [i for i in range(len(lines)) if _is_folder(lines, i)]
    is_called = bool(_CALL.search(call))
    if (len(folders) > 1 or (folders and is_called)) and _are_names(lines, folders):
        return _under_folders(lines, folders)
    paths = sum(bool(_PATH.match(row) or _FAULT.match(row)) for row in written)
    slashes = sum("/" in row for row in written)
    long = sum(bool(_LONG.match(row)) for row in written)
    few = len(written) * (0.5 if is_called else _LEAST_SHARE)
    if long >= few or (paths >= few and (is_called or slashes >= few)):
        return _paths(lines)
    return None


def _is_folder(lines: LineTable, i: int) -> bool:
    """Whether a line names a folder, as ls -R does: after a blank line, or first."""
    return bool(_FOLDER.match(lines.rows[i])) and (i == 0 or not lines.rows[i - 1])


def _are_names(lines: LineTable, folders: list[int]) -> bool:
    """Whether what stands below folders looks like entries, not like prose."""
    entries = [row for row in lines.rows[folders[0] + 1 :] if row and not _FOLDER.match(row)]
    names = sum(len(row.split()) <= 4 or bool(_LONG.match(row)) for row in entries)
    return names >= _LEAST_SHARE * len(entries) and folders[0] <= 2


def _under_folders(lines: LineTable, folders: list[int]) -> ParsedOutput:
    ahead, folder = iter([*folders, len(lines)]), -1
    after = next(ahead)
    for i, row in enumerate(lines.rows):
        if i == after:
            folder, after = i, next(ahead)
            lines.mark(i, Level.CONTEXT)
        elif row and folder >= 0 and not row.startswith("total "):
            lines.put_under(i, folder)
        elif row.startswith("total ") or not row:
            lines.repeated(i)
    shell.mark_lines(lines)
    return parts_of_lines(lines, "listing", "lines")


def _tree(lines: LineTable) -> ParsedOutput:
    above: list[tuple[int, int]] = []
    for i, row in enumerate(lines.rows):
        match = _BRANCH.match(row)
        depth = len(match.group(1)) // 4 + 1 if match else 0
        if _COUNT.match(row):
            lines.mark(i, Level.OUTCOME)
        if not row:
            continue
        while above and above[-1][0] >= depth:
            above.pop()
        if above and match:
            lines.put_under(i, above[-1][1])
        above.append((depth, i))
    return parts_of_lines(lines, "listing")


def _paths(lines: LineTable) -> ParsedOutput:
    """Paths, or the entries of one folder; each stands for itself, the first of a folder first."""
    seen: set[str] = set()
    for i, row in enumerate(lines.rows):
        folder = row.rpartition("/")[0]
        if _FAULT.match(row) and ": " in row:
            lines.mark(i, Level.MESSAGE)
        elif folder and folder not in seen:
            seen.add(folder)
            lines.mark(i, Level.WARNING)
    return parts_of_lines(lines, "listing")
