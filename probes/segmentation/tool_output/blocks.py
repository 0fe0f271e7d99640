"""What is recognised in lines anywhere in a text, an entry a tool."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from tamis.probes.segmentation.tool_output import builds, logs, runners, traces
from tamis.probes.segmentation.tool_output.line_table import LineTable, parts_of_lines
from tamis.probes.segmentation.tool_output.parts import ParsedOutput

_LEAST_SHARE, _FAIR_SHARE = 0.02, 0.3
"""Of its lines that a text is named after."""


class Block(NamedTuple):
    """What a tool prints.

    Attributes:
        name: of the format, where a text has more of this tool than of others.
        hint: a pattern without which a text has nothing of it.
        mark: marks the tool's lines and returns how many it recognised.
        is_general: whether many tools print such lines; those are marked last.
    """

    name: str
    hint: re.Pattern[str]
    mark: Callable[[LineTable], int]
    is_general: bool = False


BLOCKS = (
    Block(
        "compiler",
        re.compile(
            r":\d+: |\(\d+,\d+\): |: \*\*\* |undefined reference"
            r"|^[ \t]+\d+:\d+ +(?:error|warning) |^ld: ",
            re.M,
        ),
        builds.mark_compiler,
    ),
    Block(
        "docker_build",
        re.compile(r"^#\d+ |^Step \d+/\d+ : |^(?:ERROR: )?failed to solve", re.M),
        builds.mark_docker,
    ),
    Block(
        "go",
        re.compile(
            r"^panic: |^goroutine \d+|^fatal error: |^[ \t]*--- (?:FAIL|PASS)|^(?:FAIL|ok  )\t"
            r"|^=== RUN",
            re.M,
        ),
        runners.mark_go,
    ),
    Block("java_trace", re.compile(r"^[ \t]+at [\w.$/<>]+\(", re.M), traces.mark_java),
    Block("javascript_trace", re.compile(r"^[ \t]+at \S", re.M), traces.mark_javascript),
    Block(
        "jest",
        re.compile(r"^[ \t]*(?:✓|✔|✕|✖|×|●|not ok|Tests:|# fail|\d+ passing)", re.M),
        runners.mark_jest,
    ),
    Block(
        "linters",
        re.compile(r"^ +--> \S|:\d+:(?:\d+:)? [A-Z]{1,4}\d{2,4}\b", re.M),
        builds.mark_linters,
    ),
    Block(
        "maven",
        re.compile(r"^\[(?:INFO|ERROR|WARNING)\] |^> Task :|^BUILD (?:FAILED|SUCCESSFUL)", re.M),
        builds.mark_maven,
    ),
    Block(
        "npm",
        re.compile(
            r"^npm (?:ERR!|error|warn|WARN|notice|http|verb)|^added \d+ packages"
            r"|^# npm audit report$|^error Command failed",
            re.M,
        ),
        builds.mark_npm,
    ),
    Block(
        "pytest",
        re.compile(r"^={3,} \w|^E   |^_{3,} |^FAILED |(?:PASSED|FAILED|ERROR) +\[", re.M),
        runners.mark_pytest,
    ),
    Block(
        "python_traceback",
        re.compile(r"Traceback \(most recent call last\)|^ *File \"|\w(?:Error|Exception)\b", re.M),
        traces.mark_python,
    ),
    Block(
        "rust",
        re.compile(
            r"^(?:error|warning)(?:\[\w+\])?: |panicked at|^test result: |^ +Compiling ", re.M
        ),
        builds.mark_rust,
    ),
    Block(
        "unittest",
        re.compile(r"^Ran \d+ tests? in |^(?:FAIL|ERROR): \w+ \(", re.M),
        runners.mark_unittest,
    ),
    Block(
        "log",
        re.compile(
            r"\b(?:ERROR|WARN|WARNING|INFO|DEBUG|FATAL|CRITICAL|TRACE|NOTICE|SEVERE|error|err|warn|info|crit)\b"
            r"|^\W?\d{4}-\d\d-\d\d[T ]|^\d\d:\d\d:\d\d",
            re.M,
        ),
        logs.mark_log,
        is_general=True,
    ),
    Block("shell", re.compile(""), logs.mark_shell, is_general=True),
)


def parse_lines(lines: LineTable) -> ParsedOutput:
    """The parts of lines, by what the tools of `BLOCKS` print."""
    return parts_of_lines(lines, _mark_blocks(lines))


def _mark_blocks(lines: LineTable) -> str:
    """Marks what all tools print; the name of the one that recognised most.

    One that is general (a log) gives its name where none of the others has a fair share.
    """
    counts = {block: block.mark(lines) for block in BLOCKS if block.hint.search(lines.text)}
    special = {block: count for block, count in counts.items() if not block.is_general}
    for found, share in ((special, _FAIR_SHARE), (counts, _LEAST_SHARE)):
        best = max(found, key=found.__getitem__, default=None)
        if best is not None and found[best] > share * len(lines):
            return best.name
    return "text"
