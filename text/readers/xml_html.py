"""Blocks of XML and HTML.

Each function reads the text once from left to right, and returns no marks for any other format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

from tamis.text.lines import Mark, lines_of
from tamis.text.readers.code import fence_cuts
from tamis.text.readers.markdown import markdown_marks
from tamis.text.types import UnitKind

_PROLOG = re.compile(r"\s*(?:<\?xml[^<>]{0,200}\?>\s*)?(?:<!--(?:[^-]|-(?!->)){0,2000}-->\s*)?")
_ROOT = re.compile(r"<([A-Za-z][\w:.-]{0,80})[\s/>]")
_XML_SIGN = re.compile(r"<!--|-->|<(/?)[A-Za-z][\w:.-]*(?:\s[^<>]*?)?(/?)>")


def xml_marks(text: str) -> list[Mark]:
    """A block for each element that spans lines and has others of one line in it, and for the lines
    of its own that stand between two of these. No marks if the text is not XML.

    Opening tags belong to what is below them, closing ones to what is above, comments likewise.
    """
    prolog = _PROLOG.match(text)
    root = _ROOT.match(text, prolog.end()) if prolog else None
    if (
        root is None
        or _TAG.match(text, root.start())
        or not text.rstrip().endswith(f"</{root[1]}>")
    ):
        return []
    lines, marks, above = lines_of(text), list[Mark](), "open"
    for at, row in zip(lines.starts, lines.rows, strict=True):
        depth = comments = 0
        for sign in _XML_SIGN.finditer(row):
            if sign[0] in ("<!--", "-->"):
                comments += 1
            elif not sign[2]:
                depth += -1 if sign[1] else 1
        kind = "open" if depth > 0 or comments else "close" if depth < 0 else "text"
        if not marks or (row and kind != "close" and above != "open" and kind != above):
            marks.append((at, "code"))
        above = kind if row else above
    return marks


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
    """Blocks of a page: a boundary before each opening block tag and after each closing one.

    A `tr` is a table row, or a header if it is in `thead` or has only `th`; tags without text
    belong to the text that they open or close. Text between blocks without any tag is read as
    Markdown. Tags need not be closed, nested or quoted correctly. No marks if the text has no block
    tags, or is Markdown with a few.
    """
    tags = list(_tags(text))
    is_html = any(tag[1] for tag in tags) or text.lstrip()[:1] == "<"
    if not is_html or len(tags) < 2 or len(tags) <= 4 * len(_MARKDOWN.findall(text)):
        return []
    page = _PageParser(text)
    for tag in tags:
        page.read_tag(tag)
    return list(_split_prose(text, page.finish()))


def _tags(text: str) -> Iterator[re.Match[str]]:
    """The block tags, one after the other.

    Tried at each sign: one search through many signs without a tag would hold the interpreter.
    """
    at = text.find("<")
    while at >= 0:
        if (tag := _TAG.match(text, at)) is not None:
            yield tag
        at = text.find("<", at + 1 if tag is None else tag.end())


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


class _PageParser:
    """Reads the tags of a page from left to right.

    The current block is [start, done). It `_has_text` once it contains text, and is `_closed` once
    a closing tag followed the text.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._marks: list[Mark] = []
        self._start = self._done = 0
        self._kind: UnitKind = "html"
        self._has_text = self._closed = self._in_head = False
        self._open_element = (
            ""  # "tr", "pre", "script" or "style" while open: other tags are then content
        )
        self._cells: set[str] = set()

    def read_tag(self, tag: re.Match[str]) -> None:
        """Processes the text before a tag, then the tag."""
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
        """Processes the text after the last tag; returns the marks."""
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
        """Ends the current block and begins the next."""
        self._set_row_kind()
        if at > self._start:
            self._marks.append((self._start, self._kind))
        self._start, self._kind = at, "html"
        self._has_text = self._closed = False
        self._cells = set()
