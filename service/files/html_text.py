"""HTML pages as the text that they show: Markdown, each block on its own lines.

The page is parsed by selectolax (Lexbor, which follows the HTML standard), so tags need not be
closed or nested correctly. What is not content (navigation, headers and footers of the site,
scripts, forms' controls) is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tamis.probes.errors import BadInput
from tamis.probes.tokens import replace_surrogates


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


MAX_OPEN_TAGS, MAX_ATTRIBUTES = 2_000, 1_000
"""They bound elements inside each other, and one tag. The parser's time grows with the square of
both; no page of fifteen manuals with 120 pages had more than 40 and 20."""

_OUTSIDE = ":not(main *, article *, [role=main] *)"
_ON_REQUEST = ":not([hidden=until-found], [role=tabpanel], details *)"
_NEVER_SHOWN = {
    "scripts and styles": "script, style, noscript, template",
    "controls and drawings": "button, input, select, textarea, svg, iframe, object, canvas",
    "hidden elements": f"[hidden]{_ON_REQUEST}, "
    f'[style*="display:none" i]{_ON_REQUEST}, [style*="display: none" i]{_ON_REQUEST}',
}
_NAVIGATION = {
    "navigation": "nav, [role=navigation], [role=search], .navheader, .navfooter, .toc, "
    ".breadcrumb, .breadcrumbs, .headerlink, .sphinxsidebar, .mobile-nav, .related:not(main *), "
    f"aside{_OUTSIDE}, .sidebar{_OUTSIDE}:not(:has(.titlepage))",
    "headers and footers": f"header{_OUTSIDE}:not(:has(h1)), footer{_OUTSIDE}, .footer{_OUTSIDE}, "
    "[role=banner], [role=contentinfo]",
}
_PERMALINKS = frozenset({"", "#", "¶", "§", "⁋", "🔗"})
_TAG = re.compile(r"<(/?)([a-zA-Z][^\s<>/]*)([^<>]*)")
_CLOSED_BY_OTHERS = frozenset(
    "area base br col embed hr img input link meta param source track wbr p li dt dd tr td th "
    "thead tbody tfoot colgroup option optgroup rt rp".split()
)


@dataclass(frozen=True, slots=True)
class HtmlText:
    """What a page shows.

    Attributes:
        title: from its head; empty without one.
        text: as Markdown; ends in a line feed, or is empty.
        left_out: how many elements of each kind were left out.
    """

    title: str
    text: str
    left_out: Mapping[str, int] = field(default_factory=dict)


def html_text(html: str) -> HtmlText:
    """The title and text of a page; of a page that is navigation alone, the navigation.

    Headings get `#`, items of lists `-` or their number, code fences, rows of tables `|`; terms of
    definition lists become headings of level 6. Links keep their text alone. White space is one
    space outside of code. Lone surrogates become U+FFFD.

    Raises:
        BadInput: its elements are nested deeper, or have more attributes, than any page for people.
    """
    _check_nesting(html)
    source = replace_surrogates(html)
    page = _read_page(source, with_navigation=False)
    return page if page.text else _read_page(source, with_navigation=True)


def _read_page(source: str, with_navigation: bool) -> HtmlText:
    tree = LexborHTMLParser(source)
    found = tree.css_first("head > title") or tree.css_first("title")
    title = _SPACES.sub(" ", found.text() if found is not None else "").strip()
    left_out = {kind: _remove(tree.css(selector)) for kind, selector in _NEVER_SHOWN.items()}
    if not with_navigation:
        left_out |= {kind: _remove(tree.css(selector)) for kind, selector in _NAVIGATION.items()}
        left_out["navigation"] += _remove(_permalinks(tree))
    return HtmlText(title, _markdown(tree), {kind: n for kind, n in left_out.items() if n})


def _check_nesting(html: str) -> None:
    open_tags: Counter[str] = Counter()
    depth = deepest = 0
    for closes, name, attributes in _TAG.findall(html):
        name = name.lower()
        if len(attributes) > MAX_ATTRIBUTES and (
            attributes.count("=") > MAX_ATTRIBUTES or len(attributes.split()) > 4 * MAX_ATTRIBUTES
        ):
            raise BadInput(
                f"a tag <{name[:40]}> of the page has over {MAX_ATTRIBUTES:,} attributes; no page "
                "for people has: give it as plain text"
            )
        if name in _CLOSED_BY_OTHERS:
            continue
        change = 1 if not closes else -1 if open_tags[name] else 0
        open_tags[name] += change
        depth += change
        deepest = max(deepest, depth)
    if deepest > MAX_OPEN_TAGS:
        raise BadInput(
            f"the page has {deepest:,} elements that are open at once and at most "
            f"{MAX_OPEN_TAGS:,} are read; give it as plain text"
        )


def _remove(found: Sequence[LexborNode]) -> int:
    """Removes elements from their page; how many there were."""
    for node in found:
        node.decompose()
    return len(found)


def _permalinks(tree: LexborHTMLParser) -> list[LexborNode]:
    """The links to the place that they stand at, which show a sign alone."""
    return [
        link
        for link in tree.css('a[href^="#"]')
        if link.text().strip() in _PERMALINKS and link.css_first("img") is None
    ]


def _markdown(tree: LexborHTMLParser) -> str:
    writer = MarkdownWriter()
    root = tree.body
    for node, opens in _walk(root) if root is not None else ():
        if node.is_text_node:
            writer.add_text(node.text_content or "")
        elif opens:
            writer.open_tag(node.tag or "", node)
        else:
            writer.close_tag(node.tag or "")
    return writer.text()


def _walk(root: LexborNode) -> Iterator[tuple[LexborNode, bool]]:
    """Every node below, in order: texts once, elements when they open and when they close.

    It is a loop, for pages may be nested deeper than Python's stack.
    """
    path: list[LexborNode] = []
    node = root.first_child
    while node is not None or path:
        if node is None:
            node = path.pop()
            yield node, False
            node = node.next
        elif node.is_element_node:
            yield node, True
            path.append(node)
            node = node.first_child
        else:
            if node.is_text_node:
                yield node, True
            node = node.next
