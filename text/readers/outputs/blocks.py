"""What is recognised in lines anywhere in a text, an entry a tool."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from tamis.text.readers.outputs import builds, logs, runners, table, traces
from tamis.text.readers.outputs.line_table import LineTable, WholeText, mark_rows, parts_of_lines
from tamis.text.readers.outputs.parts import LAST_PROTECTED, ParsedOutput

_LEAST_SHARE, _FAIR_SHARE = 0.02, 0.3
"""A text is named after a format from these shares of its lines on."""


class Block(NamedTuple):
    """What a tool prints.

    Attributes:
        name: of the format, where a text has more of this tool than of others.
        hints: patterns, without any of which a text has nothing of it; several, for the search of
            one that begins with letters or with a line is faster than that of both together.
        mark: marks the tool's lines and returns how many it recognised.
        is_general: whether many tools print such lines; those are marked last.
    """

    name: str
    hints: tuple[re.Pattern[str], ...]
    mark: Callable[[LineTable], int]
    is_general: bool = False

    def hinted_in(self, text: str) -> bool:
        """Whether one of the hints is in a text."""
        return any(hint.search(text) for hint in self.hints)


def _any_of(*patterns: str) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(pattern, re.M) for pattern in patterns)


BLOCKS = (
    Block(
        "compiler",
        _any_of(
            r":\d+: ",
            r"\(\d+,\d+\): ",
            r": \*\*\* ",
            "undefined reference",
            r"^(?:[ \t]+\d+:\d+ +(?:error|warning) |ld: )",
        ),
        builds.mark_compiler,
    ),
    Block(
        "docker_build",
        _any_of(r"^#\d+ |^Step \d+/\d+ : |^(?:ERROR: )?failed to solve"),
        builds.mark_docker,
    ),
    Block(
        "go",
        _any_of(
            r"^panic: |^goroutine \d+|^fatal error: |^[ \t]*--- (?:FAIL|PASS)|^(?:FAIL|ok  )\t"
            r"|^=== RUN"
        ),
        runners.mark_go,
    ),
    Block("java_trace", _any_of(r"^[ \t]+at [\w.$/<>]+\("), traces.mark_java),
    Block("javascript_trace", _any_of(r"^[ \t]+at \S"), traces.mark_javascript),
    Block(
        "jest",
        _any_of(r"^[ \t]*(?:✓|✔|✕|✖|×|●|not ok|Tests:|# fail|\d+ passing)"),
        partial(mark_rows, rules=runners.JEST),
    ),
    Block("junit", _any_of(r"^[ \t]*<testcase\b"), partial(mark_rows, rules=runners.JUNIT)),
    Block(
        "linters",
        _any_of(
            r":\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b",
            r"^ +--> \S",
        ),
        builds.mark_linters,
    ),
    Block(
        "maven",
        _any_of(r"^\[(?:INFO|ERROR|WARNING)\] |^> Task :|^BUILD (?:FAILED|SUCCESSFUL)"),
        builds.mark_maven,
    ),
    Block(
        "npm",
        _any_of(
            r"^npm (?:ERR!|error|warn|WARN|notice|http|verb)|^added \d+ packages"
            r"|^# npm audit report$|^error Command failed"
        ),
        partial(mark_rows, rules=builds.NPM),
    ),
    Block(
        "pytest",
        _any_of(
            r"PASSED +\[",
            r"FAILED +\[",
            r"ERROR +\[",
            r"^(?:={3,} \w|E   |_{3,} |FAILED )",
        ),
        runners.mark_pytest,
    ),
    Block(
        "python_traceback",
        _any_of(
            r"Traceback \(most recent call last\)",
            r"Error(?<=\wError)\b",
            r"Exception(?<=\wException)\b",
            r'^ *File "',
        ),
        traces.mark_python,
    ),
    Block(
        "rust",
        _any_of(
            "panicked at",
            r"^(?:(?:error|warning)(?:\[\w+\])?: |test result: | +Compiling )",
        ),
        builds.mark_rust,
    ),
    Block(
        "unittest",
        _any_of(r"^Ran \d+ tests? in |^(?:FAIL|ERROR): \w+ \("),
        partial(mark_rows, rules=runners.UNITTEST),
    ),
    Block(
        "log",
        _any_of(
            r"^(?:\W?\d{4}-\d\d-\d\d[T ]|\d\d:\d\d:\d\d)",
            r"\[\d{1,2}/[A-Z][a-z]{2}/\d{4}:",
            r"\b(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL|CRITICAL|TRACE|NOTICE|SEVERE|error|err|warn|info|crit)\b",
            r"\b(?:level|lvl|severity)=",
        ),
        logs.mark_log,
        is_general=True,
    ),
    Block("shell", _any_of(""), logs.mark_shell, is_general=True),
)


def parse_lines(lines: LineTable) -> ParsedOutput:
    """The parts of lines, by what the tools of `BLOCKS` print."""
    return parts_of_lines(lines, _mark_lines(lines))


def parse_whole(found: WholeText) -> ParsedOutput:
    """The parts of a text of one format, in which another tool may have printed something, too."""
    lines = found.lines
    _mark_loose(lines)
    if found.has_lists:
        lines.keep_lists_whole()
    return parts_of_lines(lines, found.format_name, found.unit, found.first_row)


def _mark_loose(lines: LineTable) -> None:
    """Reads what a format does not explain as what any tool prints; a few such lines are odd."""
    places, pieces, is_loose = list[int](), list[str](), False
    for i, row in enumerate(lines.rows):
        is_loose = i in lines.loose if row else is_loose
        if is_loose and places and places[-1] != i - 1:  # what the format explains is between
            places.append(-1)
            pieces.append("\n")
        if is_loose:
            places.append(i)
            pieces.append(lines.text[lines.starts[i] : lines.stops[i]])
    plain = LineTable("".join(pieces), split_redraws=False)
    _mark_lines(plain)
    for at, i in enumerate(places):
        if i < 0:
            continue
        header, level = plain.headers[at], plain.levels[at]
        if header >= 0 or level <= LAST_PROTECTED:
            lines.headers[i] = places[header] if header >= 0 else -1
        lines.mark(i, level, plain.turns[at])
        lines.joined[i] |= plain.joined[at] and places[at - 1] == i - 1
    table.mark_few_lines(lines, sorted(lines.loose))


def _mark_lines(lines: LineTable) -> str:
    name = _mark_blocks(lines)
    if name in ("text", "log", "compiler", "linters"):
        table.mark_odd_lines(lines)
    return name


def _mark_blocks(lines: LineTable) -> str:
    """Marks what all tools print; the name of the one that recognised most.

    One that is general (a log) gives its name where none of the others has a fair share.
    """
    seen = "\n".join(lines.rows)
    counts = {block: block.mark(lines) for block in BLOCKS if block.hinted_in(seen)}
    special = {block: count for block, count in counts.items() if not block.is_general}
    for found, share in ((special, _FAIR_SHARE), (counts, _LEAST_SHARE)):
        best = max(found, key=found.__getitem__, default=None)
        if best is not None and found[best] > share * len(lines):
            return best.name
    return "text"
