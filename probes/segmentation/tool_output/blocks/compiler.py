"""Diagnostics as `file:line:column: error: ...`: gcc, clang, go, make, linkers, tsc, eslint."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(
    r":\d+: |\(\d+,\d+\): |: \*\*\* |undefined reference|^[ \t]+\d+:\d+ +(?:error|warning) |^ld: ",
    re.M,
)
_PLACED = re.compile(
    r"(?!\d{2,4}[-:/.]\d)(\S[^:\s(]*?)(?::\d+(?::\d+)?(?::| -)|\(\d+(?:,\d+)?\):?) "
    r"(?:(fatal error|error|warning|note|remark|info)\b)?"
)
_LEVELS = {
    "error": Level.MESSAGE,
    "fatal error": Level.MESSAGE,
    "warning": Level.WARNING,
}
_GO = re.compile(r"(?:vet: )?\.{0,2}/?[\w./-]+\.go:\d+:\d+: ")
_FUNCTION = re.compile(
    r"\S+: (?:In|At) (?:function|member function|constructor|top level|instantiation)"
)
_SOURCE = re.compile(r"\s+\d* \||\s+\^|\s+[~^]+|\s*\d+\s{2,}\S|\s*[~^]+$|\s\s.*\^")
_INCLUDED = re.compile(r"(?:In file included|\s+) from \S+:\d+")
_BUILD = re.compile(
    r"g?make(?:\[\d+\])?: \*\*\* |ninja: build stopped|collect2: error|\S*ld: "
    r"|clang(?:\+\+)?: error"
)
_LINT = re.compile(r"\s+\d+:\d+\s+(error|warning)\s")
_LAST = re.compile(
    r"Found \d+ errors?|\S? ?\d+ problems? \(|\d+ (?:errors?|warnings?).* generated|# \S+$"
)
_COMPILE = re.compile(r"\s*(?:\[ *\d+%\]|\[\d+/\d+\]|gcc|g\+\+|cc|c\+\+|clang|CC|CXX|LD|AR)\s")


def mark_lines(lines: LineTable) -> int:
    """Marks diagnostics by their word; what stands below one is its context."""
    reader = _DiagnosticReader(lines)
    return sum(reader.read(i, row) for i, row in enumerate(lines.rows))


class _DiagnosticReader:
    """Knows the function, the file and the diagnostic above a line."""

    def __init__(self, lines: LineTable) -> None:
        self.lines = lines
        self.function = self.above = self.file = -1

    def read(self, i: int, row: str) -> bool:
        """Marks a line; whether it belongs to diagnostics."""
        if row[:1] in ("/", ".") and " " not in row:
            self.file = i
        if self._is_diagnostic(i, row) or self._is_context(i, row) or self._is_lint(i, row):
            return True
        if _LAST.match(row):
            self.lines.mark(i, Level.CONTEXT if row.startswith("#") else Level.OUTCOME)
            return False
        self.function = -1
        self.above = -1 if row else self.above
        if _COMPILE.match(row):
            self.lines.repeated(i)
        return False

    def _is_diagnostic(self, i: int, row: str) -> bool:
        if _FUNCTION.match(row):
            self.function = i
            return True
        level = _level(row)
        if level is None:
            return False
        self.above = i
        self.lines.mark(i, level)
        if self.function >= 0:
            self.lines.put_under(i, self.function)
        return True

    def _is_context(self, i: int, row: str) -> bool:
        if self.above >= 0 and _SOURCE.match(row):
            is_error = self.lines.levels[self.above] <= Level.DETAIL
            if is_error and i == self.above + 1:
                self.lines.mark(i, Level.DETAIL, 1)
            self.lines.mark(i, Level.CONTEXT if is_error else Level.ORDINARY, i - self.above)
            self.lines.put_under(i, self.above)
            return True
        if _INCLUDED.match(row):
            self.lines.mark(i, Level.CONTEXT)
            return True
        return False

    def _is_lint(self, i: int, row: str) -> bool:
        if (match := _LINT.match(row)) is None:
            return False
        self.lines.mark(i, _LEVELS[match.group(1)])
        if self.file >= 0:
            self.lines.put_under(i, self.file)
        return True


def _level(row: str) -> Level | None:
    """How much a line matters if it is a diagnostic."""
    if ":" not in row:
        return None
    if _BUILD.match(row) or "undefined reference to" in row or "multiple definition of" in row:
        return Level.MESSAGE
    if _GO.match(row):
        return Level.MESSAGE
    match = _PLACED.match(row)
    if match is None or match.group(2) is None:
        return None
    return _LEVELS.get(match.group(2), Level.CONTEXT)
