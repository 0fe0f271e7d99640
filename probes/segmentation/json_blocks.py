"""JSON as blocks: a whole text of it, JSON Lines, and documents that stand among other lines.

Each function reads the text once from left to right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from tamis.probes.segmentation.code import CODE_CHARS
from tamis.probes.segmentation.lines import Mark, lines_of

_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')
_NUMBER_OR_WORD = re.compile(r"\s*[-\dtfn]")


def json_marks(text: str) -> list[Mark]:
    """A block for each member of the top object or array; nested where one exceeds `CODE_CHARS`.

    Numbers, true, false and null in an array stay together. JSON Lines: a block for each line. No
    marks if the text is not JSON.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return []
    if is_json_container(text):
        return [(at, "json") for at in (0, *member_starts(text))]
    lines = lines_of(text)
    rows = [(at, row) for at, row in zip(lines.starts, lines.rows, strict=True) if row]
    if len(rows) > 1 and all(row[0] == "{" and is_json_container(row) for _, row in rows):
        return [(at, "json") for at, _ in rows]
    return []


def is_json_container(text: str) -> bool:
    """Whether the text is an object or array; numbers, which may be long, are not converted."""
    if text.rstrip()[-1:] not in ("}", "]"):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def member_starts(text: str) -> list[int]:
    """Offsets after the commas between members, without those inside short members."""
    starts: list[int] = []
    # per open bracket: the number of starts before it, its member's start, whether it is an array
    open_brackets: list[tuple[int, int, bool]] = []
    member = 0
    for token in _JSON_TOKEN.finditer(text):
        sign, after = token[0][0], token.end()
        if sign in "[{":
            open_brackets.append((len(starts), member, sign == "["))
            member = after
        elif sign in "]}":
            starts_before, member, _ = open_brackets.pop()
            if open_brackets and after - member <= CODE_CHARS:
                del starts[starts_before:]
        elif sign == ",":
            member = after
            if not (open_brackets[-1][2] and _NUMBER_OR_WORD.match(text, after)):
                starts.append(after)
    return starts


def json_spans(rows: Sequence[str]) -> dict[int, int]:
    """The first line of each JSON document among others, and the line after it.

    Its brackets stand alone at the margin, with nothing else at the margin that is one.
    """
    found: dict[int, int] = {}
    begun: int | None = None
    for at, row in enumerate(rows):
        if row[:1] not in ("{", "[", "}", "]"):
            continue
        if begun is not None and row in ("}", "]") and at > begun + 1:
            if is_json_container("\n".join(rows[begun : at + 1])):
                found[begun] = at + 1
        begun = at if row in ("{", "[") else None
    return found
