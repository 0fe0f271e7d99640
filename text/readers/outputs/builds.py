"""What compilers, linters and builds print: diagnostics, their places, what failed."""

from __future__ import annotations

import re

from tamis.text.readers.outputs.line_table import JOB_STAMP, LineTable, Rule, mark_rows
from tamis.text.readers.outputs.parts import Level

_COMPILER_PLACED = re.compile(
    r"(?!\d{2,4}[-:/.]\d)\S[^:\s(]*?(?::\d+(?P<column>:\d+)?(?::| -)|\(\d+(?P<place>,\d+)?\):?) "
    r"(?:(?P<kind>fatal error|error|warning|note|remark|info)\b|(?P<other>[a-z]+: |[A-Z]+\d))?"
)
_COMPILER_LEVELS = {
    "error": Level.MESSAGE,
    "fatal error": Level.MESSAGE,
    "warning": Level.WARNING,
}
_COMPILER_GO = re.compile(r"(?:vet: )?\.{0,2}/?[\w./-]+\.go:\d+:\d+: ")
_COMPILER_FUNCTION = re.compile(
    r"\S+: (?:In|At) (?:function|member function|constructor|top level|instantiation)"
)
_COMPILER_SOURCE = re.compile(r"\s+\d* \||\s+\^|\s+[~^]+|\s*\d+\s{2,}\S|\s*[~^]+$|\s\s.*\^")
_COMPILER_INCLUDED = re.compile(r"(?:In file included|\s+) from \S+:\d+")
_COMPILER_BUILD = re.compile(
    r"g?make(?:\[\d+\])?: \*\*\* |ninja: build stopped|collect2: error|\S*ld: "
    r"|clang(?:\+\+)?: error"
)
_COMPILER_LINT = re.compile(r"\s+\d+:\d+\s+(error|warning)\s")
_COMPILER_LAST = re.compile(
    r"Found \d+ errors?|\S? ?\d+ problems? \(|\d+ (?:errors?|warnings?).* generated|# \S+$"
)
_COMPILER_COMPILE = re.compile(
    r"\s*(?:\[ *\d+%\]|\[\d+/\d+\]|gcc|g\+\+|cc|c\+\+|clang|CC|CXX|LD|AR)\s"
)


def mark_compiler(lines: LineTable) -> int:
    """Marks diagnostics by their word; what stands below one is its context."""
    parser = _DiagnosticParser(lines)
    return sum(parser.read(i, row) for i, row in enumerate(lines.rows))


class _DiagnosticParser:
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
        if _COMPILER_LAST.match(row):
            self.lines.mark(i, Level.CONTEXT if row.startswith("#") else Level.OUTCOME)
            return False
        self.function = -1
        self.above = -1 if row else self.above
        if _COMPILER_COMPILE.match(row):
            self.lines.repeated(i)
        return False

    def _is_diagnostic(self, i: int, row: str) -> bool:
        if _COMPILER_FUNCTION.match(row):
            self.function = i
            return True
        level = _level(row)
        if level is None:
            return False
        self.above = i
        self.lines.mark(i, level, header=self.function)
        return True

    def _is_context(self, i: int, row: str) -> bool:
        if self.above >= 0 and _COMPILER_SOURCE.match(row):
            is_error = self.lines.levels[self.above] <= Level.DETAIL
            if is_error and i == self.above + 1:
                self.lines.mark(i, Level.DETAIL, 1)
            self.lines.mark(i, Level.CONTEXT if is_error else Level.ORDINARY, i - self.above)
            self.lines.put_under(i, self.above)
            return True
        if _COMPILER_INCLUDED.match(row):
            self.lines.mark(i, Level.CONTEXT)
            return True
        return False

    def _is_lint(self, i: int, row: str) -> bool:
        if (match := _COMPILER_LINT.match(row)) is None:
            return False
        self.lines.mark(i, _COMPILER_LEVELS[match.group(1)], header=self.file)
        return True


def _level(row: str) -> Level | None:
    """How much a line matters if it is a diagnostic."""
    if ":" not in row:
        return None
    if (
        _COMPILER_BUILD.match(row)
        or "undefined reference to" in row
        or "multiple definition of" in row
    ):
        return Level.MESSAGE
    if _COMPILER_GO.match(row):
        return Level.MESSAGE
    match = _COMPILER_PLACED.match(row)
    if match is None:
        return None
    if kind := match["kind"]:
        return _COMPILER_LEVELS.get(kind, Level.CONTEXT)
    # with a line and a column and no other word for it, it is what a tool has to say
    return None if match["other"] or not (match["column"] or match["place"]) else Level.MESSAGE


_DOCKER_STEP = re.compile(rf"(?:{JOB_STAMP})?#(\d+) ")
_DOCKER_DONE = re.compile(
    r"#\d+ (?:DONE|CACHED|sha256:|extracting|transferring|resolve|exporting|writing|naming)"
)
_DOCKER_FILE = re.compile(r"(?>\S*?Dockerfile)\S*:\d+")
_DOCKER_CLASSIC = re.compile(r"Step (\d+)/\d+ : ")
_DOCKER_FAILURES = (
    Rule(
        re.compile(
            r"#\d+ ERROR|(?:ERROR: )?failed to (?:solve|build)"
            r"|The command '.*' returned a non-zero|ERROR: "
        ),
        Level.MESSAGE,
    ),
    Rule(re.compile(r"\s*\d+ \| >>> "), Level.DETAIL),
    Rule(_DOCKER_FILE, Level.LOCATION),
)


def mark_docker(lines: LineTable) -> int:
    """Marks errors and the failed instruction; what a step printed is shown under the step."""
    mark_rows(lines, _DOCKER_FAILURES)
    steps: dict[str, int] = {}
    count, classic = 0, -1
    for i, row in enumerate(lines.rows):
        if match := _DOCKER_STEP.match(lines.text, lines.starts[i]):
            count += 1
            lines.put_under(i, steps.setdefault(match.group(1), i))
            if _DOCKER_DONE.match(row):
                lines.repeated(i)
        elif _DOCKER_CLASSIC.match(row):
            count, classic = count + 1, i
        elif classic >= 0 and row:
            lines.put_under(i, classic)
            count += 1
    return count


_LINTERS_CONCISE = re.compile(r"\S[^:]*:\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b")
_LINTERS_FINDING = re.compile(r"[A-Z]{1,4}\d{2,4} |[\w-]+: \[?\*?\]? ?[A-Z]|invalid-syntax")
_LINTERS_PLACE = re.compile(r" +--> \S+:\d+:\d+")
_LINTERS_SOURCE = re.compile(r"\s*(?:\d+\s*)?[|+-]|\s*\d+ |help: |\s*\.\.\.$")
_LINTERS_LAST = re.compile(r"Found \d+ errors?|All checks passed|Your code has been rated")


def mark_linters(lines: LineTable) -> int:
    """Marks findings, their places, and what stands below them."""
    count, header = 0, -1
    for i, row in enumerate(lines.rows):
        if _LINTERS_CONCISE.match(row):
            count, header = count + 1, -1
            lines.mark(i, Level.MESSAGE)
        elif _LINTERS_LAST.match(row):
            lines.mark(i, Level.OUTCOME)
        elif i and _LINTERS_PLACE.match(row) and _LINTERS_FINDING.match(lines.rows[i - 1]):
            count, header = count + 2, i - 1
            lines.mark(header, Level.MESSAGE)
            lines.mark(i, Level.LOCATION, header=header)
        elif header >= 0 and _LINTERS_SOURCE.match(row):
            count += 1
            lines.mark(i, Level.CONTEXT, i - header, header=header)
            if "^" in row and i - header > 2:  # under the source that is meant
                lines.mark(i - 1, Level.DETAIL)
        elif row:
            header = -1
    return count


_MAVEN_ADVICE = re.compile(
    r"\[ERROR\] *(?:$|-> \[Help|Re-run Maven|To see the full|For more information|\[Help \d+\]"
    r"|After correcting|Please refer|See https?:|See dump)"
)
_MAVEN_LAST = re.compile(
    r"(?:\[\w+\] )?(?:BUILD (?:FAIL|SUCCESS)|Tests run: \d+, .*(?<!s)$|Total time:)|\d+ actionable"
)
_MAVEN_GRADLE = re.compile(r"> Task \S+ FAILED|(?>.*? > ).* FAILED$|e: \S+:\d+:\d+")
_MAVEN_PROGRESS = re.compile(
    r"\[INFO\] *(?:Download(?:ing|ed)|$|-+)|Download(?:ing|ed)"
    r"|> Task \S+(?: UP-TO-DATE| NO-SOURCE)?$|Progress \("
)
_MAVEN = (
    Rule(re.compile(rf"(?=.*Time elapsed)(?:{_MAVEN_LAST.pattern})"), Level.DETAIL),
    Rule(_MAVEN_LAST, Level.OUTCOME),
    Rule(re.compile(r"\[ERROR\]")),
    Rule(re.compile(r"\[WARNING\]|w: \S+:\d+:\d+"), Level.WARNING),
    Rule(_MAVEN_GRADLE, Level.MESSAGE),
    Rule(re.compile(r"FAILURE: |\* What went wrong"), Level.DETAIL),
    Rule(_MAVEN_PROGRESS, Level.REPEATED),
    Rule(re.compile(r"\[INFO\]")),
)


def mark_maven(lines: LineTable) -> int:
    """Marks `[ERROR]` lines of Maven once each, for it repeats them, without its advice.

    Of Gradle it marks what stands below `* What went wrong:`, the last cause first.
    """
    seen, wrong = set(), -1
    for i, row in enumerate(lines.rows):
        if row.startswith("* What went wrong") or not row:
            wrong = i if row else -1
        elif wrong >= 0:
            is_last = i + 1 == len(lines) or not lines.rows[i + 1]
            lines.mark(i, Level.MESSAGE, turn=not is_last)
            lines.put_under(i, wrong)
        if row.startswith("[ERROR]") and not _MAVEN_LAST.match(row):
            lines.judged.add(i)
            if not _MAVEN_ADVICE.match(row):
                lines.mark(i, Level.DETAIL if row in seen else Level.MESSAGE)
            seen.add(row)
    return mark_rows(lines, _MAVEN)


NPM = (
    Rule(
        re.compile(
            r"npm (?:ERR!|error) (?:code|syscall|errno|path|command|\d{3}|Could not|Conflicting"
            r"|Found|Missing|No matching|Cannot|[A-Z]\w*Error|Lifecycle|Invalid|Unsupported|peer )"
        ),
        Level.MESSAGE,
    ),
    Rule(
        re.compile(
            r"npm (?:ERR!|error)(?:\s*$| (?:A complete log|\s*/.*-debug|this command with"
            r"|For a full report|Fix the upstream))"
        )
    ),
    Rule(re.compile(r"npm (?:ERR!|error)"), Level.DETAIL),
    Rule(
        re.compile(r"npm (?:warn|WARN) (?:ERESOLVE|Could not|Conflicting|peer |Found: )"),
        Level.DETAIL,
    ),
    Rule(re.compile(r"npm (?:warn|WARN)|warning "), Level.WARNING),
    Rule(re.compile(r"npm http"), Level.REPEATED),
    Rule(re.compile(r"npm |> |# npm audit report$")),
    Rule(re.compile(r"error "), Level.MESSAGE, counts=False),
    Rule(
        re.compile(
            r"(?:added|removed|changed|up to date|audited|found) .*|\d+ (?:\w+ )*severity|Done in "
            r"|\d+ vulnerabilit(?:y|ies)\b"
        ),
        Level.OUTCOME,
        counts=False,
    ),
)
"""Marks what npm and yarn say went wrong, the code first."""


_RUST_DIAGNOSTIC = re.compile(r"(error|warning)(?:\[\w+\])?: ")
_RUST_LAST = re.compile(
    r"error: (?:could not compile|aborting due|test failed|build failed)"
    r"|warning: `[^`]*` .*generated|error: \d+ (?:target|previous)"
)
_RUST_PLACE = re.compile(r"\s*(?:-->|:::) \S+:\d+:\d+")
_RUST_SOURCE = re.compile(r"\s*(?:\d+\s*)?\||\s*\.\.\.$|\s*= (?:note|help)|(?:note|help): ")
_RUST_PANIC = re.compile(r"thread '[^']*'(?: \(\d+\))? panicked at")
_RUST_TEST = re.compile(r"test \S.* \.\.\. (ok|FAILED|ignored)")
_RUST_FRAME_FILE = re.compile(r"\s+at (\S+\.rs):\d+")
_RUST_LIBRARY = re.compile(r"/rustc/|/registry/src|/library/(?:std|core|alloc)/")
_RUST_PROGRESS = re.compile(
    r"\s+(?:Compiling|Downloaded|Downloading|Checking|Updating|Adding|Fresh|Locking) "
)


def mark_rust(lines: LineTable) -> int:
    """Marks errors and where they are; warnings and their context matter less."""
    count, i, sections = 0, 0, []
    while i < len(lines):
        row = lines.rows[i]
        if _RUST_LAST.match(row) or row.startswith("test result: "):
            lines.mark(i, Level.OUTCOME)
            count += 1
        elif match := _RUST_DIAGNOSTIC.match(row):
            stop = _mark_diagnostic(lines, i, match.group(1) == "error")
            count, i = count + stop - i, stop
            continue
        elif "panicked at" in row and _RUST_PANIC.search(row):
            _mark_panic(lines, i)
            count += 2
        elif match := _RUST_TEST.match(row):
            count += 1
            lines.repeated(i) if match.group(1) == "ok" else lines.mark(i, Level.CONTEXT)
        elif _RUST_PROGRESS.match(row):
            count += 1
            lines.repeated(i)
        elif row.startswith("---- ") and row.endswith(" stdout ----"):
            count += 1
            sections.append(i)
        elif (match := _RUST_FRAME_FILE.match(row)) and i:
            count += 2
            lines.mark(i, Level.CONTEXT, header=i - 1)
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
        if _RUST_PLACE.match(row):
            level = Level.LOCATION if not has_place else Level.CONTEXT
            has_place = True
        elif _RUST_SOURCE.match(row):
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
        match = _RUST_FRAME_FILE.match(lines.rows[j])
        if match and not _RUST_LIBRARY.search(match.group(1)):
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
