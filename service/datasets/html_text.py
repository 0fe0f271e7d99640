"""HTML pages as Markdown: headings, paragraphs, lists, code and tables, each on its own lines."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_LEFT_OUT = frozenset(
    "script style noscript head nav header footer aside button form label svg template".split()
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)} | {"dt": "###### "}
_BLOCKS = frozenset(
    "p div section article main ul ol dl table tbody thead blockquote figure figcaption address "
    "details summary br hr".split()
)
_NAVIGATION = re.compile(r"\b(nav|navheader|navfooter|toc|sidebar|breadcrumbs?|related|menu)\b")
_VOID = frozenset("br hr img input meta link col area base wbr source".split())
_SPACES = re.compile(r"\s+")
_EMPTY_LINES = re.compile(r"\n{3,}")


def html_to_markdown(html: str) -> tuple[str, str]:
    """The title of a page and its text as Markdown; navigation, scripts and forms are left out.

    Terms of definition lists become headings of level 6. Links keep their text alone.
    """
    reader = _PageReader()
    reader.feed(html)
    reader.close()
    return _SPACES.sub(" ", reader.title).strip(), reader.text()


class _PageReader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title = ""
        self._lines: list[str] = []
        self._line = ""
        self._open: list[tuple[str, bool]] = []
        self._lists: list[int | None] = []
        self._in_title = self._in_code = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _VOID:
            if tag in _BLOCKS and not self._in_code:
                self._end_line()
            return
        named = " ".join(value or "" for name, value in attrs if name in ("class", "id", "role"))
        self._open.append((tag, tag in _LEFT_OUT or bool(_NAVIGATION.search(named))))
        self._in_title |= tag == "title"
        if tag in ("ul", "ol"):
            self._end_line()
            self._lists.append(0 if tag == "ol" else None)
        elif tag in ("li", "tr", "dd"):
            self._end_line()
            self._line = self._list_mark() if tag == "li" else ""
        elif tag in ("td", "th"):
            self._line += " | " if self._line.strip() else "| "
        elif mark := _HEADINGS.get(tag):
            self._start_block(mark)
        elif tag == "pre":
            self._start_block("```\n")
            self._in_code = True
        elif tag in _BLOCKS and not _is_mark(self._line):
            self._start_block("")

    def handle_endtag(self, tag: str) -> None:
        if tag not in (name for name, _ in self._open):
            return
        while self._open and self._open.pop()[0] != tag:
            pass
        self._in_title &= tag != "title"
        if tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "pre":
            self._line = self._line.rstrip("\n") + "\n```"
            self._in_code = False
        elif tag == "tr" and self._line.strip():
            self._line += " |"
        if tag in _HEADINGS or tag in ("pre", "p", "table", "ul", "ol"):
            self._start_block("")
        elif tag in ("li", "tr", "dd"):
            self._end_line()

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        if any(left_out for _, left_out in self._open):
            return
        if self._in_code:
            self._line += data
            return
        text = _SPACES.sub(" ", data)
        self._line += text.lstrip() if not self._line or self._line.endswith(" ") else text

    def text(self) -> str:
        """What was read."""
        self._end_line()
        return _EMPTY_LINES.sub("\n\n", "\n".join(self._lines)).strip() + "\n"

    def _list_mark(self) -> str:
        indent = "  " * max(0, len(self._lists) - 1)
        if self._lists and self._lists[-1] is not None:
            self._lists[-1] += 1
            return f"{indent}{self._lists[-1]}. "
        return f"{indent}- "

    def _start_block(self, mark: str) -> None:
        self._end_line()
        if self._lines and self._lines[-1] and not self._lists:
            self._lines.append("")
        self._line = mark

    def _end_line(self) -> None:
        if self._line.strip() and not _is_mark(self._line):
            self._lines.append(self._line.rstrip())
        self._line = ""


def _is_mark(line: str) -> bool:
    """Whether a line holds nothing but the mark of a heading, a list item or a cell."""
    return re.fullmatch(r"\s*(#+|-|\d+\.|\|[| ]*)\s*", line) is not None
