"""What test runners print: failed tests, what they say, the counts."""

from __future__ import annotations

import re

from tamis.text.lines import indent_of
from tamis.text.readers.outputs.line_table import LineTable, Rule
from tamis.text.readers.outputs.parts import Level

_GO_FILE = re.compile(r"\t(\S+\.go):\d+")
_GO_LIBRARY = re.compile(
    r"/src/(?:runtime|testing|net|internal|reflect|sync)/|/pkg/mod/|/libexec/src/"
)
_GO_TEST = re.compile(r"(\s*)--- (FAIL|PASS|SKIP): ")
_GO_SAID = re.compile(r"\s+\S+\.go:\d+: ")
_GO_PACKAGE = re.compile(r"(FAIL|ok  |---)\t\S+|\?   \t\S+")


def mark_go(lines: LineTable) -> int:
    """Marks panics and where they came from, failed tests and what they say."""
    parser = _GoParser(lines)
    return sum(parser.read(i, row) for i, row in enumerate(lines.rows))


class _GoParser:
    """Knows the test that a line is of: from `=== RUN` or from `--- FAIL`."""

    def __init__(self, lines: LineTable) -> None:
        self.lines = lines
        self.run = self.test = -1
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
        elif match := _GO_FILE.match(row):
            is_own = not self.has_location and not _GO_LIBRARY.search(match.group(1))
            self.lines.mark(i, Level.LOCATION if is_own else Level.CONTEXT)
            self.has_location = self.has_location or is_own
            if i:
                self.lines.put_under(i, i - 1)
                self.lines.mark(i - 1, Level.CONTEXT)
        else:
            return False
        return True

    def _is_test(self, i: int, row: str) -> bool:
        if match := _GO_TEST.match(row):
            self._begin_test(i, match)
        elif row.startswith(("=== RUN", "=== PAUSE", "=== CONT", "=== NAME")):
            self.run, self.test = i, -1
            self.lines.repeated(i)
        elif match := _GO_PACKAGE.match(row):
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
        if above >= 0 and indent_of(self.lines.rows[above]) < len(match.group(1)):
            self.lines.put_under(i, above)

    def _is_said(self, i: int, row: str) -> bool:
        """What a test says: below `--- FAIL`, and with -v below `=== RUN`."""
        test = self.test if self.test >= 0 else self.run
        if test < 0 or indent_of(row) <= indent_of(self.lines.rows[test]):
            return False
        self.lines.put_under(i, test)
        is_first = i == test + 1 or not self.lines.rows[i - 1].startswith(" ")
        is_message = _GO_SAID.match(row) and (is_first or self.test >= 0)
        self.lines.mark(i, Level.MESSAGE if is_message else Level.DETAIL, i - test)
        return True


_JEST_PASSED = re.compile(r"\s*(?:✓|✔|√|ok \d+|# Subtest)\s?")
_JEST_FAILED = re.compile(r"\s*(?:✕|✖|×|not ok \d+)\s|\s*● .+ › |\s*● .+|\s*FAIL\s")
_JEST_NUMBERED = re.compile(r"\s+\d+\) \S")
_JEST_SAID = re.compile(
    r"\s*(?:Expected|Received|expected|actual|\+ actual|AssertionError|error:)\b"
)
_JEST_LAST = re.compile(
    r"\s*(?:Tests:|Test Suites:|Test Files|Snapshots:|Time:|\d+ (?:passing|failing|pending)"
    r"|[#ℹ] (?:pass|fail|tests|cancelled) \d+)"
)
JEST = (
    Rule(_JEST_LAST, Level.OUTCOME, "ends"),
    Rule(_JEST_FAILED, Level.MESSAGE, "begins"),
    Rule(_JEST_PASSED, Level.REPEATED, "ends"),
    Rule(_JEST_SAID, Level.DETAIL, "under", counts=False),
    Rule(_JEST_SAID, Level.DETAIL, counts=False),
    Rule(_JEST_NUMBERED, Level.DETAIL, "begins", counts=False),
)
"""Marks failed tests of jest, vitest, mocha and node, and what was expected of them."""


_PYTEST_SECTION = re.compile(r"=+ (.+?) =+$")
_PYTEST_TEST = re.compile(r"_{3,} (.+?) _{3,}$")
_PYTEST_LOCATION = re.compile(
    r"\S+?:\d+: (?:in |[\w.]*(?:Error|Exception|Exit|Interrupt|Failed|Skipped)\b|$)|\S+:\d+: \w+$"
)
_PYTEST_SHORT = re.compile(r"(FAILED|ERROR|XPASS|XFAIL|SKIPPED)\b.*")
_PYTEST_STATUS = re.compile(
    r"(?>\S+?(?:::| )).*\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS|RERUN)\b(?:\s|$)"
    r"|\S+\.py [.FEsxX]+(?:\s|$)"
)
_PYTEST_BARE_STATUS = re.compile(r"\S+\.py::\S.* (PASSED|FAILED|ERROR|SKIPPED)\b")
_PYTEST_COUNTS = re.compile(
    r"(?<!\d)\d+ (?:passed|failed|error|skipped|xfailed|deselected|warning)|no tests ran"
)
_PYTEST_CAPTURED = re.compile(r"-+ Captured .* -+$")
_PYTEST_LIBRARY = re.compile(r"site-packages|/lib/python3|_pytest/")


def mark_pytest(lines: LineTable) -> int:
    """Marks what each test says of its failure, and where; lines of passed tests are repeated."""
    count, section, i = 0, "", 0
    while i < len(lines):
        row, stop = lines.rows[i], i + 1
        if row.endswith("=") and (match := _PYTEST_SECTION.match(row)):
            section = match.group(1)
            if _PYTEST_COUNTS.search(section):
                lines.mark(i, Level.OUTCOME)
        elif section in ("FAILURES", "ERRORS"):
            if _PYTEST_TEST.match(row):
                stop = _failure_stop(lines, i + 1)
                _mark_failure(lines, i, stop)
        elif not _mark_line(lines, i, section):
            count -= 1
        count, i = count + stop - i, stop
    return count


def _mark_line(lines: LineTable, i: int, section: str) -> bool:
    """A line outside of failures; whether it is pytest's."""
    row = lines.rows[i]
    if section.startswith("short test summary"):
        return _mark_summary(lines, i)
    if section.startswith("warnings summary"):
        return True
    status = _PYTEST_STATUS if section.startswith("test session") else _PYTEST_BARE_STATUS
    if not section and row.startswith("E  "):  # what a test said, cut off above
        again = i > 0 and lines.rows[i - 1].startswith("E  ")
        lines.mark(i, Level.DETAIL if again else Level.MESSAGE)
        return True
    if match := status.match(row):
        if match.group(1) in ("FAILED", "ERROR"):
            lines.mark(i, Level.CONTEXT)
        else:
            lines.repeated(i)
        return True
    if _PYTEST_COUNTS.match(row) and " in " in row:  # pytest -q
        lines.mark(i, Level.OUTCOME)
        return True
    return False


def _mark_summary(lines: LineTable, i: int) -> bool:
    """A line of the short summary: a failure with its message in the fewest tokens."""
    match = _PYTEST_SHORT.match(lines.rows[i])
    if match is None:
        if _PYTEST_COUNTS.match(lines.rows[i]):
            lines.mark(i, Level.OUTCOME)
        return bool(lines.rows[i])
    is_failure = match.group(1) in ("FAILED", "ERROR")
    lines.mark(i, Level.MESSAGE if is_failure else Level.WARNING)
    return True


def _failure_stop(lines: LineTable, i: int) -> int:
    """The line after a test's section."""
    while i < len(lines) and not (
        _PYTEST_TEST.match(lines.rows[i]) or _PYTEST_SECTION.match(lines.rows[i])
    ):
        i += 1
    return i


def _mark_failure(lines: LineTable, header: int, stop: int) -> None:
    lines.mark(header, Level.CONTEXT)
    errors, places = [], []
    for i in range(header + 1, stop):
        row = lines.rows[i]
        lines.put_under(i, header)
        if row.startswith("E  ") or row == "E":
            errors.append(i)
        elif _PYTEST_LOCATION.match(row):
            places.append(i)
        elif row.startswith(">"):
            lines.mark(i, Level.DETAIL, 1)
        elif _PYTEST_CAPTURED.match(row):
            break
        elif row:
            lines.mark(i, Level.CONTEXT, i - header)
    _mark_errors(lines, errors)
    _mark_places(lines, places, not errors)


def _mark_errors(lines: LineTable, errors: list[int]) -> None:
    """The first of each block of `E` lines, for a chained exception has several blocks."""
    turn = 0
    for above, i in zip([-2, *errors], errors, strict=False):
        turn = turn + 1 if above == i - 1 else 0
        lines.mark(i, Level.DETAIL if turn else Level.MESSAGE, max(1, turn))


def _mark_places(lines: LineTable, places: list[int], is_message: bool) -> None:
    """Where it failed: the last place in one's own code; a doctest has nothing else to say."""
    own = [i for i in places if not _PYTEST_LIBRARY.search(lines.rows[i])]
    for i in places:
        is_last = i == (own or places)[-1]
        lines.mark(i, Level.LOCATION if is_last else Level.DETAIL, 0 if is_last else 2)
        if is_last and is_message:
            lines.mark(i, Level.MESSAGE, 1)


JUNIT = (
    Rule(re.compile(r"\s*<testsuites?\b"), Level.OUTCOME, "ends"),
    Rule(re.compile(r"\s*<testcase\b[^>]*/>"), Level.REPEATED, "ends"),
    Rule(re.compile(r"\s*<testcase\b"), Level.CONTEXT, "begins"),
    Rule(re.compile(r"\s*<(?:failure|error)\b"), Level.MESSAGE, "under"),
    Rule(re.compile(r"\s*</testcase>"), None, "ends"),
    Rule(re.compile(""), None, "under", counts=False),
)
"""Marks the failures of JUnit's XML, each under its test."""


_UNITTEST_SKIPPED = re.compile(r".* \.\.\. (?:skipped.*|expected failure|unexpected success)$")
UNITTEST = (
    Rule(re.compile(r"(?:FAIL|ERROR|UNEXPECTED SUCCESS): \w"), Level.MESSAGE, "begins"),
    Rule(re.compile(r"={6}[=-]{64}$"), None, "ends"),
    Rule(re.compile(r"Ran(?= ).* in "), Level.OUTCOME, "ends"),
    Rule(re.compile(r"OK$|(?:FAILED \(|OK).*\)$"), Level.OUTCOME, counts=False),
    Rule(re.compile(r".* \.\.\. (?:FAIL|ERROR)$"), Level.CONTEXT),
    Rule(re.compile(r".* \.\.\. ok$"), Level.REPEATED),
    Rule(_UNITTEST_SKIPPED),
    Rule(re.compile(r"(?![=-]{70}$)."), None, "under"),
)
"""Marks each failure's name, and the outcome; what lies below a name is shown under it."""
