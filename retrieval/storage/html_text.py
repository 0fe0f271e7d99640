"""What a reader of HTML sees: no tags, comments, scripts or styles; entities as characters."""

from __future__ import annotations

import html
import re

_HIDDEN = re.compile(r"<!--|<(script|style)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def blank_markup(text: str) -> str:
    """The same with a blank for every character that is not shown: offsets stay."""
    parts, at = [], 0
    for start, stop in _hidden_spans(text):
        parts += [text[at:start], " " * (stop - start)]
        at = stop
    return _TAG.sub(lambda tag: " " * len(tag[0]), "".join(parts) + text[at:])


def visible_text(text: str) -> str:
    """The words of a part of a page; its tags are blanks, `&eacute;` is é."""
    return html.unescape(blank_markup(text))


def _hidden_spans(text: str) -> list[tuple[int, int]]:
    """Comments, scripts and styles; what is never closed hides nothing."""
    found, at, endless = [], 0, set[str]()
    while match := _HIDDEN.search(text, at):
        name = (match[1] or "").lower()
        close = re.compile(rf"</{name}\s*>" if name else "-->", re.IGNORECASE)
        end = None if name in endless else close.search(text, match.end())
        if end is None:
            endless.add(name)
            at = match.end()
        else:
            found.append((match.start(), end.end()))
            at = end.end()
    return found
