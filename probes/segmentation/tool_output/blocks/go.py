"""Go: panics with their goroutines, `go test`."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import LineTable, indent
from tamis.probes.segmentation.tool_output.parts import Level

HINT = re.compile(
    r"^panic: |^goroutine \d+|^fatal error: |^[ \t]*--- (?:FAIL|PASS)|^(?:FAIL|ok  )\t|^=== RUN",
    re.M,
)
_FILE = re.compile(r"\t(\S+\.go):\d+")
_LIBRARY = re.compile(
    r"/src/(?:runtime|testing|net|internal|reflect|sync)/|/pkg/mod/|/libexec/src/"
)
_TEST = re.compile(r"(\s*)--- (FAIL|PASS|SKIP): ")
_SAID = re.compile(r"\s+\S+\.go:\d+: ")
_PACKAGE = re.compile(r"(FAIL|ok  |---)\t\S+|\?   \t\S+")


def mark_lines(lines: LineTable) -> int:
    """Marks panics and where they came from, failed tests and what they say."""
    reader = _GoReader(lines)
    return sum(reader.read(i, row) for i, row in enumerate(lines.rows))


class _GoReader:
    """Knows the test that a line is of: from `=== RUN` or from `--- FAIL`."""

    def __init__(self, lines: LineTable) -> None:
        self.lines = lines
        self.run = self.test = self.first_said = -1
        self.has_location = True

    def read(self, i: int, row: str) -> bool:
        """Marks a line; whether it is Go's."""
        return self._is_panic(i, row) or self._is_test(i, row) or self._is_said(i, row)

    def _is_panic(self, i: int, row: str) -> bool:
        if row.startswith(("panic: ", "fatal error: ", "[signal ")):
            self.test, self.has_location = -1, False
            self.lines.mark(i, Level.DETAIL if row.startswith("[signal") else Level.MESSAGE)
        elif row.startswith("goroutine "):
            self.lines.mark(i, Level.CONTEXT)
        elif match := _FILE.match(row):
            is_own = not self.has_location and not _LIBRARY.search(match.group(1))
            self.lines.mark(i, Level.LOCATION if is_own else Level.CONTEXT)
            self.has_location = self.has_location or is_own
            if i:
                self.lines.put_under(i, i - 1)
                self.lines.mark(i - 1, Level.CONTEXT)
        else:
            return False
        return True

    def _is_test(self, i: int, row: str) -> bool:
        if match := _TEST.match(row):
            self._begin_test(i, match)
        elif row.startswith(("=== RUN", "=== PAUSE", "=== CONT", "=== NAME")):
            self.run, self.test = i, -1
            self.lines.repeated(i)
        elif match := _PACKAGE.match(row):
            self.run = self.test = -1
            if match.group(1) == "FAIL":
                self.lines.mark(i, Level.OUTCOME)
            else:
                self.lines.repeated(i)
        elif row in ("FAIL", "PASS"):
            self.lines.mark(i, Level.DETAIL)
        else:
            return False
        return True

    def _begin_test(self, i: int, match: re.Match[str]) -> None:
        """A test's own line; subtests are shown under their test."""
        above, self.test, self.run = self.test, -1, -1
        if match.group(2) != "FAIL":
            self.lines.repeated(i)
            return
        self.test = i
        self.lines.mark(i, Level.MESSAGE)
        if above >= 0 and indent(self.lines.rows[above]) < len(match.group(1)):
            self.lines.put_under(i, above)

    def _is_said(self, i: int, row: str) -> bool:
        """What a test says: below `--- FAIL`, and with -v below `=== RUN`."""
        test = self.test if self.test >= 0 else self.run
        if test < 0 or indent(row) <= indent(self.lines.rows[test]):
            return False
        self.lines.put_under(i, test)
        is_first = i == test + 1 or not self.lines.rows[i - 1].startswith(" ")
        is_message = _SAID.match(row) and (is_first or self.test >= 0)
        self.lines.mark(i, Level.MESSAGE if is_message else Level.DETAIL, i - test)
        return True
