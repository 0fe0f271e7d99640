"""Tables: psql, Markdown, CSV, and columns as kubectl, docker, ps and df print them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from tamis.text.readers.outputs.line_table import LineTable, WholeText
from tamis.text.readers.outputs.logs import TIMES, mark_shell
from tamis.text.readers.outputs.parts import Level

LEAST_ROWS = 8
"""None of fewer rows is unusual."""
_RARE_SHARE = 0.03
_MOST_KINDS = 0.2
LEAST_ALIKE, _FEW_SHARE, _FEW_ODD = 20, 0.01, 3
"""Among so many rows, a handful of unlike ones goes before all that is scored."""


def rows_with_rare_values(values: Mapping[int, str], rows: int, fields: int) -> set[int]:
    """The rows whose value in one column is rare; none if the column has too many values for that.

    Of 300 users, the one who is suspended. Where many rows have a rare one, none is unlike others.

    Args:
        values: of one column, by row; rows without it are left out.
        rows: how many there are in all. fields: of how many a fifth may be different values.
    """
    rare = _rare_values(Counter(values.values()), rows, fields)
    return {i for i, value in values.items() if value in rare}


def _rare_values(counts: Mapping[Any, int], rows: int, fields: int) -> set[Any]:
    if rows < LEAST_ROWS or not 1 < len(counts) <= max(3, _MOST_KINDS * fields):
        return set()
    limit = max(1, _RARE_SHARE * rows)
    rare = {value for value, count in counts.items() if count <= limit}
    return rare if sum(counts[value] for value in rare) <= max(_FEW_ODD, 2 * limit) else set()


_RULE_CHARS = frozenset(" \t|+-=:")
_HEADING = re.compile(r"\s*[A-Z%#][A-Z0-9%#_()/.-]*(?:\s+[A-Z%#][A-Z0-9%#_()/.-]*){2,}\s*$")
_SPACED = re.compile(r"\S+(?: \S+)*(?:\s{2,}\S+(?: \S+)*){2,}")
_COUNT = re.compile(r"\(\d+ rows?\)|\d+ rows? in set|(?:INSERT|UPDATE|DELETE|SELECT) \d+")
_FAULT = re.compile(
    r"\b(?:CrashLoopBackOff|ImagePullBackOff|ErrImagePull|OOMKilled|Evicted|NotReady|Unhealthy"
    r"|FAILED|FAILURE|ERROR|Error|Failed|Exited \([1-9]\d*\)|DEAD|unhealthy|defunct|Unknown)\b"
)
_PARTLY = re.compile(r"(?<!\S)(\d+)/(\d+)(?!\S)")
_PENDING = re.compile(r"\s(?:Pending|Terminating|Init:\S+)(?!\S)")
_COLUMNS_CALL = re.compile(
    r"\b(?:ps|df|kubectl|docker|podman|top|lsblk|netstat|ss|systemctl|free)\b"
)
_FEW = 4
_MOST_COLUMNS = 20
_FRONT = 60
"""Characters of a line: the time stands here."""
_DIGITS = re.compile(r"\d+")


def parse_table(text: str, call: str) -> WholeText | None:
    """The rows of a text that is one table, each under its header."""
    lines = LineTable(text, split_redraws=False)
    header = _header(lines, call)
    if header is None:
        return None
    first, body, separator = header
    for i in range(first, body):
        lines.mark(i, Level.CONTEXT)
        if i > first:
            lines.joined[i] = True
    least = _least_cells(lines, first, body, separator)
    rows, is_ready = [], "READY" in lines.rows[first].split()
    for i in range(body, len(lines)):
        row = lines.rows[i]
        if _COUNT.match(row):
            lines.mark(i, Level.OUTCOME)
        elif row and not _is_rule(row):
            lines.put_under(i, first)
            rows.append(i)
            if _cells(row, separator) < least and '"' not in row:
                lines.loose.add(i)
            if _FAULT.search(row) or (is_ready and _is_not_ready(row)):
                lines.mark(i, Level.MESSAGE)
    _mark_unusual(lines, rows, None if separator == "  " else separator)
    if separator == "  ":
        mark_shell(lines)
    return WholeText(lines, "table", "rows", lines.numbers[body] - 1)


def _cells(row: str, separator: str) -> int:
    return len(row.split(None if separator == "  " else separator))


def _least_cells(lines: LineTable, first: int, body: int, separator: str) -> int:
    """The fewest cells of a row; what has fewer was not printed by what printed the table."""
    if separator == "  ":
        return max(3, len(lines.rows[first].split()) - 4)
    return _cells(lines.rows[body if separator == "|" else first], separator)


def _is_rule(row: str) -> bool:
    """Whether a line is drawn between a header and its rows, or around a table."""
    return "--" in row and _RULE_CHARS.issuperset(row)


def _header(lines: LineTable, call: str) -> tuple[int, int, str] | None:
    """The header's first line, the line behind it, and what stands between cells."""
    written = [i for i, row in enumerate(lines.rows[:12]) if row]
    if len(lines) < _FEW or not written:
        return None
    at = written[0]
    for rule in written[1:3]:
        if _is_rule(lines.rows[rule]) and _are_alike(lines, rule + 1, "|"):
            return at, rule + 1, "|"
    if (comma := _csv_separator(lines, at)) is not None:
        return at, at + 1, comma
    is_heading = _HEADING.match(lines.rows[at]) or (
        _COLUMNS_CALL.search(call) and _SPACED.match(lines.rows[at])
    )
    if is_heading and _have_columns(lines, at):
        return at, at + 1, "  "
    return None


def _are_alike(lines: LineTable, body: int, separator: str) -> bool:
    """Whether nearly all lines below have as many cells as the first of them."""
    rows = [row for row in lines.rows[body:] if row and not _COUNT.match(row)]
    if not rows or separator not in rows[0]:
        return False
    count = rows[0].count(separator)
    return sum(row.count(separator) >= count for row in rows) >= 0.8 * len(rows)


def _csv_separator(lines: LineTable, at: int) -> str | None:
    for separator in (",", "\t", ";"):
        count = lines.rows[at].count(separator)
        rows = [row for row in lines.rows[at + 1 :] if row]
        if count < 2 or len(rows) < _FEW or ": " in lines.rows[at] or "{" in lines.rows[at]:
            continue
        alike = sum(row.count(separator) == count or '"' in row for row in rows)
        if alike >= 0.95 * len(rows):
            return separator
    return None


def _have_columns(lines: LineTable, at: int) -> bool:
    """Whether the lines below have about as many words as the header."""
    rows = [row for row in lines.rows[at + 1 :] if row]
    least = _least_cells(lines, at, at + 1, "  ")
    return bool(rows) and sum(_cells(row, "  ") >= least for row in rows) >= 0.8 * len(rows)


def _is_not_ready(row: str) -> bool:
    """Whether not all parts of a pod are ready, though it has not ended."""
    partly = _PARTLY.search(row)
    is_less = partly is not None and int(partly[1]) < int(partly[2]) and "Completed" not in row
    return is_less or bool(_PENDING.search(row))


def mark_odd_lines(lines: LineTable) -> None:
    """Marks the few lines unlike all the others: in their status, in a word, or in a unit."""
    rows = [i for i, row in enumerate(lines.rows) if row and lines.levels[i] >= Level.WARNING]
    if len(rows) >= LEAST_ALIKE:
        _mark_unusual(lines, rows, None)


def mark_few_lines(lines: LineTable, rows: Sequence[int]) -> None:
    """Marks rows that are unlike all others of a text, if they are few."""
    if len(rows) <= _most_odd(len(lines)):
        for i in rows:
            lines.mark(i, Level.DETAIL, turn=1)


def _most_odd(rows: int) -> float:
    return max(_FEW_ODD, _FEW_SHARE * rows) if rows >= LEAST_ALIKE else 0


def _mark_unusual(lines: LineTable, rows: Sequence[int], separator: str | None) -> None:
    """Marks rows with a cell that hardly any other has, in a column of few values or few shapes."""
    texts = [TIMES.sub("", row[:_FRONT]) + row[_FRONT:] for row in (lines.rows[i] for i in rows)]
    shapes = [_DIGITS.sub("#", text) for text in texts]
    found, few = list[set[int]](), set[int]()
    for column in dict.fromkeys((*_columns(texts, separator), *_columns(shapes, separator))):
        counts = Counter(column)
        is_full = counts.pop(None, 0) <= 0.5 * len(rows)
        if is_full and (rare := _rare_values(counts, len(rows), len(rows))):
            found.append({i for i, cell in enumerate(column) if cell in rare})
    most = _most_odd(len(rows))
    for odd in sorted(found, key=len):
        few |= odd if len(few | odd) <= most else set()
    for i in set().union(*found):
        lines.mark(rows[i], Level.DETAIL if i in few else Level.WARNING, turn=1)


def _columns(texts: Sequence[str], separator: str | None) -> list[tuple[str | None, ...]]:
    """The first columns, with None where a row is shorter."""
    cells = (text.split(separator, _MOST_COLUMNS)[:_MOST_COLUMNS] for text in texts)
    stripped = cells if separator is None else ([cell.strip() for cell in row] for row in cells)
    return list(zip_longest(*stripped))
