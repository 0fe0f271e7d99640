"""git: diffs, logs, and git status."""

from __future__ import annotations

import re

from tamis.probes.segmentation.tool_output.line_table import (
    LineTable,
    Rule,
    mark_rows,
    parts_of_lines,
)
from tamis.probes.segmentation.tool_output.logs import mark_shell
from tamis.probes.segmentation.tool_output.parts import Level, ParsedOutput

_DIFF = re.compile(r"^(?:diff --(?:git|cc|combined) |@@+ -\d|commit [0-9a-f]{7,40}\b)", re.M)
_HUNK = re.compile(r"@@+ -(\d+)(?:,(\d+))? \+\d++(?:,(\d++))?+.* @@+")
_COMMIT = re.compile(r"(?:\* )?commit [0-9a-f]{7,40}\b")
_STAT = re.compile(r" \d+ files? changed")


def parse_diff(text: str, call: str) -> ParsedOutput | None:
    """The lines of a text with commits, files of a diff or hunks."""
    if not _DIFF.search(text):
        return None
    lines = LineTable(text, split_redraws=False)
    parser = _DiffParser(lines)
    for i in range(len(lines)):
        parser.read(i)
    if parser.count < 2:
        return None
    if parser.loose:
        mark_shell(lines)
    return parts_of_lines(lines, "diff" if parser.hunks else "git log")


class _DiffParser:
    """Reads a diff line by line; knows commit, file and hunk of the line."""

    def __init__(self, lines: LineTable) -> None:
        self.lines = lines
        self.commit = self.file = self.hunk = -1
        self.old = self.new = 0
        self.count = self.hunks = self.loose = 0

    def read(self, i: int) -> None:
        """One line; counts of a hunk's header say which lines are the hunk's."""
        row = self.lines.rows[i]
        if self.old > 0 or self.new > 0:
            if not self._is_cut(i) and self._read_changed(i, row[:1]):
                return
            self.old = self.new = 0
        if row.startswith("@@") and (match := _HUNK.match(row)):
            self._begin_hunk(i, match)
        elif row.startswith("diff --") or (row.startswith("--- ") and self._is_plain(i)):
            self._begin_file(i)
        elif _COMMIT.match(row):
            self.commit, self.file, self.hunk = i, -1, -1
            self.count += 1
            self.lines.mark(i, Level.CONTEXT)
        else:
            self._read_header(i, row)

    def _read_changed(self, i: int, sign: str) -> bool:
        """A line of a hunk; False where the hunk ended before its count was reached."""
        if sign not in ("+", "-", " ", "\\", ""):
            return False
        self.lines.put_under(i, self.hunk)
        if sign in "+-" and sign:
            self.lines.mark(i, Level.WARNING if self.lines.rows[i][1:].strip() else Level.ORDINARY)
        self.old -= sign in ("-", " ", "")
        self.new -= sign in ("+", " ", "")
        return True

    def _is_cut(self, i: int) -> bool:
        """Whether another file's lines (`---`, `+++`, `@@`) begin before the hunk's count ends.

        They are the hunk's own, a removed and an added line, if they are just what it still lacks.
        """
        following = self.lines.rows[i : i + 3]
        return (
            (self.old, self.new) != (1, 1)
            and len(following) == 3
            and following[0].startswith("--- ")
            and following[1].startswith("+++ ")
            and _HUNK.match(following[2]) is not None
        )

    def _begin_hunk(self, i: int, match: re.Match[str]) -> None:
        self.hunk, self.count, self.hunks = i, self.count + 1, self.hunks + 1
        self.old, self.new = int(match.group(2) or 1), int(match.group(3) or 1)
        self.lines.mark(i, Level.CONTEXT, header=self.file)

    def _begin_file(self, i: int) -> None:
        self.file, self.hunk = i, -1
        self.count += 1
        self.lines.mark(i, Level.CONTEXT, header=self.commit)

    def _is_plain(self, i: int) -> bool:
        """Whether `---` begins a file of a diff without `diff --git`."""
        rows = self.lines.rows
        is_pair = i + 1 < len(rows) and rows[i + 1].startswith("+++ ")
        return is_pair and (self.file < 0 or self.hunk >= 0)

    def _read_header(self, i: int, row: str) -> None:
        if self.file >= 0 and self.hunk < 0:
            self.lines.put_under(i, self.file)
            if row.startswith(("index ", "similarity ", "--- ", "+++ ")):
                self.lines.repeated(i)
            if row.startswith("+++ ") and i + 1 < len(self.lines):
                self._join_file_lines(i)
        elif self.commit >= 0 and row:
            self._read_message(i, row)
        elif _STAT.match(row):
            self.lines.mark(i, Level.OUTCOME)
        elif row:
            self.loose += 1

    def _join_file_lines(self, i: int) -> None:
        """`---` and `+++` say which file it is: shown with its hunks."""
        if self.lines.rows[i - 1].startswith("--- ") and self.lines.headers[i] == self.file:
            self.lines.headers[i - 1] = self.file
            self.lines.joined[i] = True
            self.file = i - 1 if self.lines.rows[self.file].startswith("diff --") else self.file

    def _read_message(self, i: int, row: str) -> None:
        self.lines.put_under(i, self.commit)
        if _STAT.match(row):
            self.lines.mark(i, Level.CONTEXT)
        elif row.startswith("    "):
            is_subject = not self.lines.rows[i - 1].strip()
            self.lines.mark(i, Level.CONTEXT if is_subject else Level.WARNING)
        elif row.startswith(("Author:", "AuthorDate:", "Commit:", "CommitDate:", "Merge:")):
            self.lines.repeated(i)


_STATUS = re.compile(
    r"^(?:On branch |HEAD detached |Changes (?:to be committed|not staged)|Untracked files:)", re.M
)
_STATUS_RULES = (
    Rule(
        re.compile(r"(?:Changes|Untracked files|Unmerged paths|Ignored files).*:$"),
        Level.CONTEXT,
        "begins",
    ),
    Rule(re.compile(r"  \(use "), Level.REPEATED),
    Rule(re.compile(r"\t(?:both|deleted by|added by) "), Level.MESSAGE, "under"),
    Rule(re.compile(r"\t"), None, "under"),
    Rule(re.compile(r"On branch|HEAD detached|Your branch|nothing to|no changes"), Level.OUTCOME),
    Rule(re.compile("."), None, "ends"),
)


def parse_status(text: str, call: str) -> ParsedOutput | None:
    """The lines of `git status`: files under the heading that says what is the matter with them."""
    if len(_STATUS.findall(text)) < 2:
        return None
    lines = LineTable(text)
    mark_rows(lines, _STATUS_RULES)
    mark_shell(lines)
    lines.keep_lists_whole()
    return parts_of_lines(lines, "git status")
