"""HTML pages as the text that they show: Markdown, each block on its own lines.

The page is parsed by selectolax (Lexbor, which follows the HTML standard), so tags need not be
closed or nested correctly. What is not content (navigation, headers and footers of the site,
scripts, forms' controls) is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tamis.probes.errors import BadInput
from tamis.probes.tokens import replace_surrogates
from tamis.service.documents.markdown_writer import MarkdownWriter

MAX_OPEN_TAGS, MAX_ATTRIBUTES = 2_000, 1_000
"""Of elements inside each other, and of one tag. The parser's time grows with the square of both;
no page of fifteen manuals with 120 pages had more than 40 and 20."""

_OUTSIDE = ":not(main *, article *, [role=main] *)"
_NEVER_SHOWN = {
    "scripts and styles": "script, style, noscript, template",
    "controls and drawings": "button, input, select, textarea, svg, iframe, object, canvas",
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
_SPACES = re.compile(r"\s+")


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
    left_out = {kind: _remove(tree, selector) for kind, selector in _NEVER_SHOWN.items()}
    if not with_navigation:
        left_out |= {kind: _remove(tree, selector) for kind, selector in _NAVIGATION.items()}
        left_out["navigation"] += _remove_permalinks(tree)
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


def _remove(tree: LexborHTMLParser, selector: str) -> int:
    """Removes the elements that a selector names; how many there were."""
    found = tree.css(selector)
    for node in found:
        node.decompose()
    return len(found)


def _remove_permalinks(tree: LexborHTMLParser) -> int:
    """Removes links to the place that they stand at, which show a sign alone; how many."""
    found = [
        link
        for link in tree.css('a[href^="#"]')
        if link.text().strip() in _PERMALINKS and link.css_first("img") is None
    ]
    for link in found:
        link.decompose()
    return len(found)


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
