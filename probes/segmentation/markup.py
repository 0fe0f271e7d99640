"""Markdown inside a line: links, images and inline code, which no sentence ends in."""

from __future__ import annotations

import re
from collections.abc import Iterator

# bounded, so that a run of opening brackets takes linear time
_LINK = re.compile(
    r"!?\[(?:[^\[\]]|!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?){0,200}\]\s?"
    r"\((?:[^()\s]|\([^()\s]{0,80}\)|\n){0,400}"
    r"(?:\s+\"(?:[^\"]|\"(?!\s{0,4}\))){0,200}\")?\s?\)"
)
_SIGN = "[¶\ue000-\uf8ff#]"
_TITLE_LINK = rf"\[{_SIGN}\]\([^()\n]{{0,300}}\)"
PERMALINK = re.compile(rf"{_SIGN}|{_TITLE_LINK}")
"""A pilcrow or `[#](…)`, the link from a heading to itself."""
LINKED_TITLE = re.compile(rf"\S.{{0,300}}(?:[¶\ue000-\uf8ff]|{_TITLE_LINK})$")
"""A line that ends with such a link: a heading, a signature or a caption."""
_CODE = re.compile(r"(?<!`)`[^`\n]{1,80}\n?[^`\n]{0,80}`(?!`)")


def markup_spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The spans of links, images and inline code in `[start, stop)`, links first."""
    for sign, form in (("](", _LINK), ("]\n(", _LINK), ("`", _CODE)):
        if text.find(sign, start, stop) >= 0:
            yield from (match.span() for match in form.finditer(text, start, stop))
