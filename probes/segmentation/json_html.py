"""Blocks of JSON and HTML.

Both readers look at the text once, from left to right, and return nothing if it is not theirs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise

from tamis.probes.segmentation.code import CODE_CHARS, fence_cuts
from tamis.probes.segmentation.lines import Mark, lines_of
from tamis.probes.segmentation.markdown import markdown_marks
from tamis.probes.text import UnitKind

_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')
_NUMBER_OR_WORD = re.compile(r"\s*[-\dtfn]")


def json_marks(text: str) -> list[Mark]:
    """One block a member of the top object or array, deeper where a member exceeds `CODE_CHARS`.

    Numbers, true, false and null in an array stay together. JSON Lines: one block a line. No marks
    if the text is not JSON.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return []
    if _is_json(text):
        return [(at, "json") for at in (0, *_member_starts(text))]
    lines = lines_of(text)
    rows = [(at, row) for at, row in zip(lines.starts, lines.rows, strict=True) if row]
    if len(rows) > 1 and all(row[0] == "{" and _is_json(row) for _, row in rows):
        return [(at, "json") for at, _ in rows]
    return []


def _is_json(text: str) -> bool:
    """Whether the text is one object or array; numbers, which may be long, are not converted."""
    if text.rstrip()[-1:] not in ("}", "]"):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def _member_starts(text: str) -> list[int]:
    """Offsets after the commas that part members; those inside a short member are taken back."""
    starts: list[int] = []
    above: list[
        tuple[int, int, bool]
    ] = []  # per open bracket: starts before it, its member's start, is array
    member = 0
    for token in _JSON_TOKEN.finditer(text):
        sign, after = token[0][0], token.end()
        if sign in "[{":
            above.append((len(starts), member, sign == "["))
            member = after
        elif sign in "]}":
            known, member, _ = above.pop()
            if above and after - member <= CODE_CHARS:
                del starts[known:]
        elif sign == ",":
            member = after
            if not (above[-1][2] and _NUMBER_OR_WORD.match(text, after)):
                starts.append(after)
    return starts


_TAG = re.compile(
    r"(?<!`)<(/?)(address|article|aside|blockquote|body|caption|dd|div|dl|dt|fieldset|figcaption|figure|footer|form"
    r"|h[1-6]|head|header|hr|html|li|main|nav|ol|p|pre|script|section|style|table|tbody|td|tfoot|th|thead|title|tr|ul)"
    r"(?=[\s/>])[^<>]*>",
    re.IGNORECASE,
)
_MARKDOWN = re.compile(r"^(?:#{1,6}[ \t]|```|~~~)", re.MULTILINE)
_RAW = frozenset({"pre", "script", "style"})
_CELLS = frozenset({"td", "th"})
_TITLES: dict[str, UnitKind] = dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading")
_KINDS: dict[str, UnitKind] = {"tr": "table_row", "pre": "code", **_TITLES}
_ROW_ENDS = frozenset({"tr", "thead", "tbody", "tfoot", "table"})


def html_marks(text: str) -> list[Mark]:
    """Blocks of a page: a boundary before an opening block tag and after a closing one.

    A `tr` is a row, or a header if it stands in `thead` or has only `th`; tags without text go with
    the text they open or close. Text between blocks that has no tag is read as Markdown. Nothing
    has to be closed, nested or quoted rightly. No marks if the text has no block tags, or is
    Markdown with a few.
    """
    tags = list(_TAG.finditer(text)) if "<" in text else []
    closed = any(tag[1] for tag in tags) or text.lstrip()[:1] == "<"
    if not closed or len(tags) < 2 or len(tags) <= 4 * len(_MARKDOWN.findall(text)):
        return []
    page = _PageReader(text)
    for tag in tags:
        page.read_tag(tag)
    return list(_split_prose(text, page.finish()))


def _split_prose(text: str, marks: list[Mark]) -> Iterator[Mark]:
    for (start, kind), (stop, _) in pairwise([*marks, (len(text), "html")]):
        if kind == "html" and text.find("<", start, stop) < 0:
            yield from markdown_marks(text, start, stop)
        elif kind == "code":
            lines = lines_of(text, start, stop)
            cuts = fence_cuts(lines, 0, len(lines.rows))
            yield from ((lines.starts[line], kind) for line in cuts)
        else:
            yield start, kind


class _PageReader:
    """One walk over the tags of a page.

    [start, done) is the block being read; it is `full` once it has text, and `closed` once a
    closing tag came after that.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._marks: list[Mark] = []
        self._start = self._done = 0
        self._kind: UnitKind = "html"
        self._has_text = self._closed = self._in_head = False
        self._open_element = ""  # "tr", "pre", "script" or "style": other tags are then content
        self._cells: set[str] = set()

    def read_tag(self, tag: re.Match[str]) -> None:
        """The text before a tag, then the tag."""
        self._read_text(tag.start())
        self._done = tag.end()
        name, opens = tag[2].lower(), not tag[1]
        if self._open_element in _RAW:
            if name == self._open_element and not opens:
                self._end_element()
        elif self._open_element == "tr" and name not in _ROW_ENDS:
            self._cells.update({name} & _CELLS)
        elif opens:
            self._open_tag(name, tag.start())
        else:
            self._close_tag(name)

    def finish(self) -> list[Mark]:
        """The marks, after the text behind the last tag."""
        self._read_text(len(self._text))
        self._end_block(len(self._text))
        return self._marks

    def _read_text(self, stop: int) -> None:
        text = self._text[self._done : stop]
        if not text or text.isspace():
            return
        if self._closed:
            self._end_block(self._done)
        self._has_text = True

    def _open_tag(self, name: str, at: int) -> None:
        if self._has_text:
            self._end_block(at)
        self._in_head = name == "thead" or (
            self._in_head and name not in ("tbody", "tfoot", "table")
        )
        self._kind = _KINDS.get(name, "html")
        self._open_element = name if name in _RAW or name == "tr" else ""
        if self._open_element:
            self._has_text, self._cells = True, set()

    def _close_tag(self, name: str) -> None:
        if name in ("thead", "table"):
            self._set_row_kind()
            self._in_head = False
        self._end_element()

    def _set_row_kind(self) -> None:
        if self._kind == "table_row" and (self._in_head or self._cells == {"th"}):
            self._kind = "table_header"

    def _end_element(self) -> None:
        self._open_element = ""
        self._closed = self._has_text

    def _end_block(self, at: int) -> None:
        """The block ends here and the next begins."""
        self._set_row_kind()
        if at > self._start:
            self._marks.append((self._start, self._kind))
        self._start, self._kind = at, "html"
        self._has_text = self._closed = False
        self._cells = set()
