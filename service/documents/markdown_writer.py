"""Writes Markdown from the opening and closing tags of a page, and the texts between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol


class Element(Protocol):
    """An element of a page, as far as the writer asks."""

    def css(self, query: str) -> Sequence[object]:
        """The elements that a selector names, of this one and those below."""


_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"dt": "###### "}
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog div dl fieldset "
    "figcaption figure footer form header hgroup hr main nav ol p section summary table tbody "
    "tfoot thead ul".split()
)
_GAPS = frozenset({*_HEADINGS, "p", "pre", "table", "ul", "ol", "dl", "blockquote", "figure"})
_NOT_IN_ROWS = "pre, ul, ol, dl, blockquote, h1, h2, h3, h4, h5, h6"
_SPACES = re.compile(r"\s+")
_MARK = re.compile(r"\s*(#+|-|\d+\.|\|[| ]*+)\s*")


class MarkdownWriter:
    """Blocks on lines of their own; white space is one space, outside of `pre`."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._line = ""
        self._lists: list[int | None] = []  # the number of the last item; None where it has none
        self._is_grid: list[bool] = []  # of each open table: cells are written in rows
        self._head_cells: list[bool] = []  # of the row: whether each cell is a heading
        self._rows = 0
        self._code: list[str] | None = None

    def open_tag(self, tag: str, element: Element) -> None:
        """An element begins."""
        if self._code is not None:
            if tag == "br":
                self._code.append("\n")
            return
        if tag in ("table", "tr", "td", "th"):
            self._open_in_table(tag, element)
        elif tag in ("ul", "ol", "li"):
            self._open_in_list(tag)
        elif tag == "pre":
            self._start_block("")
            self._code = []
        elif mark := _HEADINGS.get(tag):
            self._start_block(mark)
        elif tag == "br" or tag in _BLOCKS:
            self._open_block(tag)

    def close_tag(self, tag: str) -> None:
        """An element ends."""
        if tag == "pre":
            self._write_code()
        if self._code is not None:
            return
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "table" and self._is_grid:
            self._is_grid.pop()
        elif tag == "tr":
            self._end_row()
        if tag in _GAPS and not self._in_row():
            self._start_block("")
        elif tag in ("li", "dd") or (tag in _BLOCKS and not self._in_row()):
            self._end_line()

    def add_text(self, text: str) -> None:
        """The text of the current element."""
        if self._code is not None:
            self._code.append(text)
            return
        text = _SPACES.sub(" ", text)
        self._line += text.lstrip() if not self._line or self._line.endswith(" ") else text

    def text(self) -> str:
        """What was written; empty, or with a line feed at its end."""
        self._end_line()
        text = "\n".join(self._lines).strip("\n")
        return f"{text}\n" if text else ""

    def _in_row(self) -> bool:
        return bool(self._is_grid) and self._is_grid[-1] and self._line.startswith("|")

    def _open_in_table(self, tag: str, element: Element) -> None:
        if tag == "table":
            self._start_block("")
            self._is_grid.append(_is_grid(element))
            self._rows = 0
        elif tag == "tr":
            self._end_line()
            self._head_cells = []
        elif self._is_grid and self._is_grid[-1]:
            self._line = f"{self._line.rstrip()} | " if self._line.strip() else "| "
            self._head_cells.append(tag == "th")
        else:
            self._end_line()

    def _open_in_list(self, tag: str) -> None:
        self._end_line()
        if tag == "li":
            self._line = self._list_mark()
        else:
            self._lists.append(0 if tag == "ol" else None)

    def _end_row(self) -> None:
        if self._line.startswith("|"):
            self._line = f"{self._line.rstrip()} |"
        written = len(self._lines)
        self._end_line()
        if len(self._lines) > written:
            self._rows += 1
            if self._rows == 1 and self._head_cells and all(self._head_cells):
                self._lines.append("|" + " --- |" * len(self._head_cells))

    def _open_block(self, tag: str) -> None:
        if self._in_row():
            self._line = self._line.rstrip() + " "
        elif not _is_mark(self._line):
            if tag in _GAPS:
                self._start_block("")
            else:
                self._end_line()

    def _list_mark(self) -> str:
        indent = "  " * max(0, len(self._lists) - 1)
        if self._lists and (last := self._lists[-1]) is not None:
            self._lists[-1] = last + 1
            return f"{indent}{last + 1}. "
        return f"{indent}- "

    def _write_code(self) -> None:
        code, self._code = "".join(self._code or ()).strip("\n"), None
        if code.strip():
            fence = "```"
            while fence in code:
                fence += "`"
            self._lines += [fence, code, fence]

    def _start_block(self, mark: str) -> None:
        self._end_line()
        if self._lines and self._lines[-1] and not self._lists:
            self._lines.append("")
        self._line = mark

    def _end_line(self) -> None:
        if self._line.strip() and not _is_mark(self._line):
            self._lines.append(self._line.rstrip())
        self._line = ""


def _is_grid(table: Element) -> bool:
    """Whether a table has nothing in its cells that needs lines of its own."""
    return len(table.css("table")) == 1 and not table.css(_NOT_IN_ROWS)


def _is_mark(line: str) -> bool:
    """Whether a line holds nothing but the mark of a heading, a list item or a cell."""
    return _MARK.fullmatch(line) is not None
