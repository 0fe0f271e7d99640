"""Texts whose lines are records: chats, logs, and tables separated by commas or tabs.

An entry of a chat or log is a line with a speaker or a time, and the lines that continue it.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence

from tamis.probes.segmentation.lines import Mark
from tamis.probes.text import UnitKind

_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\b\.?)?"
_DATE = r"(?:\d{4}[-/.]\d\d[-/.]\d\d|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
_STAMP = rf"(?:{_DATE}(?:,? +|T|, ?))?{_TIME}(?:Z| ?[+-]\d\d:?\d\d)?"
_NAME = r"[^\W\d_][\w.'’@\-]{0,30}(?: [\w.'’()@\-]{1,30}){0,3}"
_CAPITALS = r"[^\W\d_][\w.'’@\-]{0,30}(?: [^\W\d_a-z][\w.'’)@\-]{0,30}){0,3}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
_TIMED = re.compile(
    rf"\s*(?:[\[(]{_STAMP}[\])]\s*\S"  # '[09:06] Anna: …'
    # '09:06 - Anna: …', but neither '1:12 And God: …' nor '25:27 And the boys grew: …'
    rf"|(?=(?:[01]\d|2[0-3]):|\d:\d\d:\d|\d+[-/.]){_STAMP}\s*(?:[-–—|]\s*)?"
    rf"(?:{_CAPITALS}\s?:|<[^<>\s]{{1,30}}>)\s"
    rf"|{_NAME},? ?[\[(]{_STAMP}[\])]\s?:\s"  # 'Anna (09:06): …'
    rf"|{_DATE}[T ]\d\d:\d\d:\d\d\S*\s+\S"  # '2024-01-05 09:06:00,123 INFO …'
    rf"|{_MONTH} [ \d]\d \d\d:\d\d:\d\d \S"  # 'Jan  5 09:06:00 host cron[1]: …'
    r"|\d{1,3}(?:\.\d{1,3}){3} \S+ \S+ \[[^\]]{10,40}\] "  # '127.0.0.1 - - [05/Jan/2024:…] …'
    rf"|\[{_LEVEL}\]:?\s+\S|{_LEVEL}\s+\[?{_STAMP})"
)
_NICK = re.compile(r"\s*<[@+]?[\w.|\- ]{1,30}> \S")
_ROLE = re.compile(
    r"\s*\**((?:user|assistant|system|human|ai|bot|chatbot|agent|customer|client|caller|operator"
    r"|support|speaker|interviewer|interviewee|moderator)(?: ?(?:\d{1,2}|[A-Z]))?)\**:\**(?:\s|$)",
    re.IGNORECASE,
)
_SPEAKER = re.compile(rf"\s*(?!(?:[A-Z] ?)?[A-Z]:)({_NAME}):\s\S")
_MAX_GAP_LINES = 8  # the most non-blank lines from one entry to the next


def entry_lines(rows: Sequence[str]) -> frozenset[int]:
    """The lines that begin an entry of a chat or a log.

    Two lines of the same form must be near each other: times, `<names>`, or roles ('USER: …'), of
    which there must be two different ones. Plain names ('Anna: …') count only if they begin three
    lines in four and one of them speaks twice, because lines of prose may have a colon, too.
    """
    nonblank = [line for line, row in enumerate(rows) if row]
    if len(nonblank) < 2:
        return frozenset()
    candidates = [
        i for i, line in enumerate(nonblank) if ":" in rows[line] or rows[line].lstrip()[0] in "[<"
    ]
    found: set[int] = set()
    for form in (_TIMED, _NICK, _ROLE, _SPEAKER):
        matched = {i: match for i in candidates if (match := form.match(rows[nonblank[i]]))}
        if form in (_ROLE, _SPEAKER):
            names = [match[1].lower() for match in matched.values()]
            if len({*names}) < 2:
                continue
            if form is _SPEAKER and not (len({*names}) < len(names) >= 0.75 * len(nonblank)):
                continue
        found |= {
            i
            for i in matched
            if any(
                i + step in matched or i - step in matched for step in range(1, _MAX_GAP_LINES + 1)
            )
        }
    return frozenset(nonblank[i] for i in found)


_DELIMITERS = (("\t", 2), (",", 3), (";", 3), ("|", 3))  # and the fewest columns of a table
_TITLE_CHARS = 60
_NUMBER = re.compile(r"\s*[-+]?[\d.,]+%?\s*$")


def table_marks(text: str) -> list[Mark]:
    """Marks of the header and of each record of a CSV or TSV file; none if the text is not one.

    Every record must have as many values as the first; only the last one may be truncated.
    """
    head = text[: text.find("\n") + 1]
    for sign, columns in _DELIMITERS:
        if head.count(sign) >= columns - 1 and (marks := _table(text, sign, columns)):
            return marks
    return []


def _table(text: str, sign: str, columns: int) -> list[Mark]:
    try:
        records = list(_records(text, sign))
    except csv.Error:
        return []
    sizes = [len(values) for _, values in records]
    if len(records) < 3 or sizes[0] < columns or {*sizes[:-1]} != {sizes[0]}:
        return []
    if sizes[-1] > sizes[0] or _is_prose([values for _, values in records], sign):
        return []
    first: UnitKind = "table_header" if _is_header(records[0][1]) else "table_row"
    return [(records[0][0], first), *((at, "table_row") for at, _ in records[1:])]


def _records(text: str, sign: str) -> Iterator[tuple[int, list[str]]]:
    """The non-empty records, each with the offset of its first line."""
    rows = text.splitlines(keepends=True)
    reader = csv.reader(rows, delimiter=sign)
    at = line = 0
    for values in reader:
        if any(value.strip() for value in values):
            yield at, values
        at += sum(map(len, rows[line : reader.line_num]))
        line = reader.line_num


def _is_prose(records: Sequence[Sequence[str]], sign: str) -> bool:
    """Whether spaces follow the delimiters, as they do in sentences but not in files."""
    inner = [value for values in records for value in values[1:]]
    return sign != "\t" and 5 * sum(value[:1] == " " for value in inner) > len(inner)


def _is_header(values: Sequence[str]) -> bool:
    return len({*values}) == len(values) and all(
        value.strip() and len(value) <= _TITLE_CHARS and not _NUMBER.match(value)
        for value in values
    )
