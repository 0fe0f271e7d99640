"""Rust: diagnostics of rustc under cargo, panics, `cargo test`."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(
    r"^(?:error|warning)(?:\[\w+\])?: |panicked at|^test result: |^ +Compiling ", re.M
)
_DIAGNOSTIC = re.compile(r"(error|warning)(?:\[\w+\])?: ")
_LAST = re.compile(
    r"error: (?:could not compile|aborting due|test failed|build failed)|warning: `.*` .*generated"
    r"|error: \d+ (?:target|previous)"
)
_PLACE = re.compile(r"\s*(?:-->|:::) \S+:\d+:\d+")
_SOURCE = re.compile(r"\s*(?:\d+\s*)?\||\s*\.\.\.$|\s*= (?:note|help)|(?:note|help): ")
_PANIC = re.compile(r"thread '[^']*'(?: \(\d+\))? panicked at")
_TEST = re.compile(r"test \S.* \.\.\. (ok|FAILED|ignored)")
_FRAME_FILE = re.compile(r"\s+at (\S+\.rs):\d+")
_LIBRARY = re.compile(r"/rustc/|/registry/src|/library/(?:std|core|alloc)/")
_PROGRESS = re.compile(
    r"\s+(?:Compiling|Downloaded|Downloading|Checking|Updating|Adding|Fresh|Locking) "
)


def mark_lines(lines: LineTable) -> int:
    """Marks errors and where they are; warnings and their context matter less."""
    count, i, sections = 0, 0, []
    while i < len(lines):
        row = lines.rows[i]
        if _LAST.match(row) or row.startswith("test result: "):
            lines.mark(i, Level.OUTCOME)
            count += 1
        elif match := _DIAGNOSTIC.match(row):
            stop = _mark_diagnostic(lines, i, match.group(1) == "error")
            count, i = count + stop - i, stop
            continue
        elif "panicked at" in row and _PANIC.search(row):
            _mark_panic(lines, i)
            count += 2
        elif match := _TEST.match(row):
            count += 1
            lines.repeated(i) if match.group(1) == "ok" else lines.mark(i, Level.CONTEXT)
        elif _PROGRESS.match(row):
            count += 1
            lines.repeated(i)
        elif row.startswith("---- ") and row.endswith(" stdout ----"):
            count += 1
            sections.append(i)
        elif (match := _FRAME_FILE.match(row)) and i:
            count += 2
            lines.put_under(i, i - 1)
            lines.mark(i, Level.CONTEXT)
            lines.mark(i - 1, Level.CONTEXT)
        i += 1
    for section in sections:
        _put_section_under(lines, section)
    return count


def _mark_diagnostic(lines: LineTable, header: int, is_error: bool) -> int:
    """Marks a diagnostic with what stands below it; returns the line after it."""
    lines.mark(header, Level.MESSAGE if is_error else Level.WARNING)
    i, has_place, turn = header + 1, False, 0
    while i < len(lines):
        row = lines.rows[i]
        if _PLACE.match(row):
            level = Level.LOCATION if not has_place else Level.CONTEXT
            has_place = True
        elif _SOURCE.match(row):
            turn += 1
            level = Level.DETAIL if "^" in row and turn < 8 else Level.CONTEXT
        else:
            break
        lines.mark(i, level if is_error else max(level, Level.WARNING), turn)
        lines.put_under(i, header)
        i += 1
    return i


def _mark_panic(lines: LineTable, i: int) -> None:
    """Where it panicked, then what it said: on the next lines since Rust 1.73."""
    lines.mark(i, Level.MESSAGE)
    for turn in range(1, 5):
        if i + turn >= len(lines) or not (row := lines.rows[i + turn]).strip():
            break
        if row.startswith(("note: ", "stack backtrace:")):
            break
        lines.mark(i + turn, Level.MESSAGE if turn == 1 else Level.DETAIL, turn)
        lines.put_under(i + turn, i)
    for j in range(i + 1, min(len(lines), i + 200)):
        match = _FRAME_FILE.match(lines.rows[j])
        if match and not _LIBRARY.search(match.group(1)):
            lines.mark(j, Level.LOCATION)
            break
        if not lines.rows[j]:
            break


def _put_section_under(lines: LineTable, header: int) -> None:
    """What a failed test printed is shown under its name."""
    for i in range(header + 1, len(lines)):
        if not lines.rows[i] and i > header + 1 and not lines.rows[i - 1]:
            break
        if lines.rows[i].startswith(("---- ", "failures:")):
            break
        lines.put_under(i, header)
