"""The visible text of HTML: no tags, comments, scripts or styles; entities as characters."""

from __future__ import annotations

import html
import re

_HIDDEN = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def blank_markup(text: str) -> str:
    """The text with a space for every character that a browser does not show; offsets stay."""
    parts, shown_from = [], 0
    for start, stop in _hidden_spans(text):
        parts += [text[shown_from:start], " " * (stop - start)]
        shown_from = stop
    return _TAG.sub(lambda tag: " " * len(tag[0]), "".join(parts) + text[shown_from:])


def visible_text(text: str) -> str:
    """The visible words of a part of a page: tags become spaces, `&eacute;` becomes é."""
    return html.unescape(blank_markup(text))


def _hidden_spans(text: str) -> list[tuple[int, int]]:
    """Half-open spans of comments, scripts and styles; one that is never closed hides nothing."""
    spans, position, unclosed = [], 0, set[str]()
    while match := _HIDDEN.search(text, position):
        name = (match[1] or "").lower()
        close = re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE)
        end = None if name in unclosed else close.search(text, match.end())
        if end is None:
            unclosed.add(name)
            position = match.end()
        else:
            spans.append((match.start(), end.end()))
            position = end.end()
    return spans
