"""Markdown inside a line: links, images and inline code, which no sentence ends in."""

from __future__ import annotations

import re
from collections.abc import Iterator

# bounded, so that a run of opening brackets takes linear time, and without a way back among what
# is in brackets: an image in it can be read in four ways, and many of them in four to their number
_LINK = re.compile(
    r"!?\[(?:!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?|[^\[\]]){0,200}+\]\s?"
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
    for inner, sign, form in (("](", "[", _LINK), ("]\n(", "[", _LINK), ("`", "`", _CODE)):
        if text.find(inner, start, stop) >= 0:
            yield from _spans_from(sign, form, text, start, stop)


def _spans_from(
    sign: str, form: re.Pattern[str], text: str, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """The spans of a form that begins with a sign, or an image's with `!` before it.

    Tried at each sign: one search through many signs without a match would hold the interpreter.
    """
    at = text.find(sign, start, stop)
    while at >= 0:
        is_image = sign == "[" and at > start and text[at - 1] == "!"
        if (found := form.match(text, at - is_image, stop)) is not None:
            yield found.span()
            start = found.end()
        at = text.find(sign, max(at + 1, start), stop)
