"""Hits of grep under their files, listings of folders (ls, tree, find), and what git prints."""

from __future__ import annotations

import re

from tamis.text.readers.outputs.line_table import LineTable, Rule, WholeText, mark_rows
from tamis.text.readers.outputs.logs import SEVERITY
from tamis.text.readers.outputs.parts import Level

_HIT = re.compile(r"(?![\s\[({<\"']|\d{4}[-/]\d\d|\d\d:\d\d|https?:)([^:\0]{1,300}?)[:-](\d+)[:-]")
_DIAGNOSTIC = re.compile(
    r"\S[^:]*:\d+:(?:\d+:)? (?:(?:fatal )?error|warning|note|info|[A-Z]{1,4}\d{2,4}"
    rf"|{SEVERITY})\b"
)
_COLUMN = re.compile(r"[^:]+:\d+:\d+: \S")
_PLAIN_HIT = re.compile(r"[\w@+-]*[./][\w./@+-]{0,300}[:-]\d+[:-]")
_NAMED = re.compile(r"((?!\s)[\w./@+-]{1,300}\.\w{1,12}|[\w.@+-]*/[\w./@+-]{1,300}):(?!//)")
_UNDER = re.compile(r"(?!\d{4}-\d\d|\d\d:\d\d\b)\d+[:-]")
_FILE = re.compile(r"[\w./@+~-][^:\s]{0,300}$")
_GREP_CALL = re.compile(r"\b(?:grep|rg|ag|ack|egrep|ripgrep|Grep)\b", re.I)
_GREP_LEAST_SHARE = 0.8
_GREP_FEW = 3


def parse_grep(text: str, call: str) -> WholeText | None:
    """The lines of a text of which nearly all are hits; without a call by grep, more strictly."""
    is_called = bool(_GREP_CALL.search(call))
    front = text[:4_000].splitlines()[:40]
    if not is_called and not any(_PLAIN_HIT.match(row) or _UNDER.match(row) for row in front):
        return None
    lines = LineTable(text, split_redraws=False)
    written = [row for row in lines.rows if row and row != "--"]
    hits = sum(_is_hit(row, is_called) for row in written)
    if len(written) >= _GREP_FEW and hits >= (0.5 if is_called else _GREP_LEAST_SHARE) * len(
        written
    ):
        _mark_hits(lines, is_called)
        return WholeText(lines, "grep")
    under = sum(bool(_UNDER.match(row)) for row in written)
    if under >= (0.5 if is_called else _GREP_LEAST_SHARE) * max(_GREP_FEW, len(written) - 1):
        return _under_files(lines)
    return None


def _is_hit(row: str, is_called: bool) -> bool:
    if is_called:
        return bool(_HIT.match(row) or _NAMED.match(row))
    return bool(_PLAIN_HIT.match(row) and _HIT.match(row) and not _DIAGNOSTIC.match(row))


def _is_only_hit(row: str, match: re.Match[str] | None, is_called: bool) -> bool:
    """Whether nothing but a search prints such a line; it may say whatever it finds."""
    if match is None or " " in match[1] or not is_called:
        return _is_hit(row, False)
    return not (_COLUMN.match(row) if match.re is _HIT else row.startswith(" ", match.end()))


def _mark_hits(lines: LineTable, is_called: bool) -> None:
    """The first hit of each file goes before its others; lines around hits last."""
    seen: set[str] = set()
    for i, row in enumerate(lines.rows):
        match = _HIT.match(row) or _NAMED.match(row)
        if row and row != "--" and not _is_only_hit(row, match, is_called):
            lines.loose.add(i)
        if match is not None and match.group(1) not in seen:
            seen.add(match.group(1))
            lines.mark(i, Level.WARNING)
        elif row == "--" or (match is not None and row[match.end(1)] == "-"):
            lines.repeated(i)


def _under_files(lines: LineTable) -> WholeText | None:
    file, files = -1, 0
    for i, row in enumerate(lines.rows):
        if _UNDER.match(row) or row == "--":
            if file >= 0:
                lines.put_under(i, file)
                lines.mark(i, Level.WARNING if i == file + 1 else Level.ORDINARY)
        elif row and _FILE.match(row):
            file, files = i, files + 1
        elif row:
            file = -1
        if row and not (_UNDER.match(row) or row == "--" or _is_path(row)):
            lines.loose.add(i)
    return WholeText(lines, "grep") if files else None


_FOLDER = re.compile(r"(?:\.{0,2}/|[\w.~@+-])[^:|\t]{0,400}:$")
_LONG = re.compile(r"(?:total \d|[bcdlps-][rwxsStT-]{9}[.+@]?\s)")
_BRANCH = re.compile(r"((?:[│|]   |[│|]\xa0\xa0 |    )*)(?:├──|└──|\|--|`--|\+--|├─|└─) ")
_BRANCHES = ("─ ", "-- ")
_PATH = re.compile(r"(?:\.{1,2}/|/|\./)?[\w.@+~-][^\s:|<>\"']*$|\.$")
_LISTING_FAULT = re.compile(r"(?:ls|find|tree|du): ")
_LISTING_CALL = re.compile(r"\b(?:ls|find|tree|fd|glob|dir|LS|list_dir\w*|list_files|Glob)\b")
_COUNT = re.compile(r"\d+ director(?:y|ies)")
_LISTING_LEAST_SHARE = 0.9
_LISTING_FEW = 5


def parse_listing(text: str, call: str) -> WholeText | None:
    """The lines of a listing."""
    lines = LineTable(text, split_redraws=False)
    written = [row for row in lines.rows if row]
    if len(written) < _LISTING_FEW:
        return None
    if any(branch in text for branch in _BRANCHES) and (
        sum(bool(_BRANCH.match(row)) for row in written)
        >= _LISTING_LEAST_SHARE * (len(written) - 2)
    ):
        return _tree(lines)
    folders = [i for i in range(len(lines)) if _is_folder(lines, i)]
    is_called = bool(_LISTING_CALL.search(call))
    if (len(folders) > 1 or (folders and is_called)) and _are_names(lines, folders):
        return _under_folders(lines, folders)
    few = len(written) * (0.5 if is_called else _LISTING_LEAST_SHARE)
    if sum(bool(_LONG.match(row)) for row in written) >= few:
        return _paths(lines)
    if not is_called and sum("/" in row for row in written) < few:
        return None
    paths = sum(bool(_PATH.match(row) or _LISTING_FAULT.match(row)) for row in written)
    return _paths(lines) if paths >= few else None


def _is_path(row: str) -> bool:
    """Whether a line is a path or the name of a file, and no word of another tool."""
    return bool(_PATH.match(row)) and ("." in row or "/" in row)


def _is_entry(row: str) -> bool:
    return row.startswith("total ") or _is_path(row) or bool(_LONG.match(row))


def _is_folder(lines: LineTable, i: int) -> bool:
    """Whether a line names a folder, as ls -R does: after a blank line, or first."""
    row = lines.rows[i]
    return row.endswith(":") and bool(_FOLDER.match(row)) and (i == 0 or not lines.rows[i - 1])


def _are_names(lines: LineTable, folders: list[int]) -> bool:
    """Whether what stands below folders looks like entries, not like prose."""
    entries = [row for row in lines.rows[folders[0] + 1 :] if row and not _FOLDER.match(row)]
    names = sum(len(row.split()) <= 4 or bool(_LONG.match(row)) for row in entries)
    return names >= _LISTING_LEAST_SHARE * len(entries) and folders[0] <= 2


def _under_folders(lines: LineTable, folders: list[int]) -> WholeText:
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
        if row and not _is_entry(row.removesuffix(":") if i == folder else row):
            lines.loose.add(i)
    return WholeText(lines, "listing", has_lists=True)


def _tree(lines: LineTable) -> WholeText:
    above: list[tuple[int, int]] = []
    for i, row in enumerate(lines.rows):
        match = _BRANCH.match(row)
        depth = len(match.group(1)) // 4 + 1 if match else 0
        if _COUNT.match(row):
            lines.mark(i, Level.OUTCOME)
        elif row and not match and not _is_path(row):
            lines.loose.add(i)
        if not row:
            continue
        while above and above[-1][0] >= depth:
            above.pop()
        if above and match:
            lines.put_under(i, above[-1][1])
        above.append((depth, i))
    return WholeText(lines, "listing")


def _paths(lines: LineTable) -> WholeText:
    """Paths, or the entries of one folder; each stands for itself, the first of a folder first."""
    seen: set[str] = set()
    for i, row in enumerate(lines.rows):
        folder = row.rpartition("/")[0]
        if row and not _is_entry(row):
            lines.loose.add(i)
        elif folder and folder not in seen:
            seen.add(folder)
            lines.mark(i, Level.WARNING)
    return WholeText(lines, "listing", has_lists=True)


_DIFF = re.compile(r"^(?:diff --(?:git|cc|combined) |@@+ -\d|commit [0-9a-f]{7,40}\b)", re.M)
_HUNK = re.compile(r"@@+ -(\d+)(?:,(\d+))? \+\d++(?:,(\d++))?+.* @@+")
_COMMIT = re.compile(r"(?:\* )?commit [0-9a-f]{7,40}\b")
_STAT = re.compile(r" \d+ files? changed")
_FILE_HEAD = re.compile(
    r"index |(?:dis)?similarity |rename |copy |(?:new|deleted|old) |--- |\+\+\+ |Binary files "
    r"|GIT binary |literal |delta |(?:@@@|[ +-]).*"
)
_COMMIT_HEAD = re.compile(r"(?:Author|AuthorDate|Commit|CommitDate|Merge):")
_COMMIT_LINE = re.compile(
    r"Date: |Reflog|gpg: |Notes\b|    |\|| .* \| |:\d{6} |[ACDMRT]\d*\t| (?:create|delete|rename) "
)


def parse_diff(text: str, call: str) -> WholeText | None:
    """The lines of a text with commits, files of a diff or hunks."""
    if not _DIFF.search(text):
        return None
    lines = LineTable(text, split_redraws=False)
    parser = _DiffParser(lines)
    for i in range(len(lines)):
        parser.read(i)
    if parser.count < 2:
        return None
    return WholeText(lines, "diff" if parser.hunks else "git log")


class _DiffParser:
    """Reads a diff line by line; knows commit, file and hunk of the line."""

    def __init__(self, lines: LineTable) -> None:
        self.lines = lines
        self.commit = self.file = self.hunk = -1
        self.old = self.new = 0
        self.count = self.hunks = 0
        self.in_commit = False

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
            self.commit, self.file, self.hunk, self.in_commit = i, -1, -1, True
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
        self.file, self.hunk, self.in_commit = i, -1, False
        self.count += 1
        self.lines.mark(i, Level.CONTEXT, header=self.commit)

    def _is_plain(self, i: int) -> bool:
        """Whether `---` begins a file of a diff without `diff --git`."""
        rows = self.lines.rows
        is_pair = i + 1 < len(rows) and rows[i + 1].startswith("+++ ")
        return is_pair and (self.file < 0 or self.hunk >= 0)

    def _read_header(self, i: int, row: str) -> None:
        if self.file >= 0 and self.hunk < 0 and (" " not in row or _FILE_HEAD.match(row)):
            self.lines.put_under(i, self.file)
            if row.startswith(("index ", "similarity ", "--- ", "+++ ")):
                self.lines.repeated(i)
            if row.startswith("+++ ") and i + 1 < len(self.lines):
                self._join_file_lines(i)
        elif self.in_commit and row and self._read_message(i, row):
            return
        elif _STAT.match(row):
            self.lines.mark(i, Level.OUTCOME)
        elif row and not row.startswith("\\ "):  # no newline at the end of the file
            self.file, self.in_commit = -1, False
            self.lines.loose.add(i)

    def _join_file_lines(self, i: int) -> None:
        """`---` and `+++` say which file it is: shown with its hunks."""
        if self.lines.rows[i - 1].startswith("--- ") and self.lines.headers[i] == self.file:
            self.lines.headers[i - 1] = self.file
            self.lines.joined[i] = True
            self.file = i - 1 if self.lines.rows[self.file].startswith("diff --") else self.file

    def _read_message(self, i: int, row: str) -> bool:
        """A line of a commit; False where another tool's lines begin."""
        if " " not in row and not _is_path(row):  # the name of a file, or `Killed`
            self.lines.loose.add(i)
        elif " " in row and not (_COMMIT_HEAD.match(row) or _COMMIT_LINE.match(row)):
            return False
        self.lines.put_under(i, self.commit)
        if _STAT.match(row):
            self.lines.mark(i, Level.CONTEXT)
        elif row.startswith("    "):
            is_subject = not self.lines.rows[i - 1].strip()
            self.lines.mark(i, Level.CONTEXT if is_subject else Level.WARNING)
        elif _COMMIT_HEAD.match(row):
            self.lines.repeated(i)
        return True


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


def parse_status(text: str, call: str) -> WholeText | None:
    """The lines of `git status`: files under the heading that says what is the matter with them."""
    if len(_STATUS.findall(text)) < 2:
        return None
    lines = LineTable(text)
    mark_rows(lines, _STATUS_RULES)
    for i, row in enumerate(lines.rows):
        if row and not any(rule.pattern.match(row) for rule in _STATUS_RULES[:-1]):
            lines.loose.add(i)
    return WholeText(lines, "git status", has_lists=True)
