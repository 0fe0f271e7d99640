"""The values of a JSON text with their spans."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.S)


@dataclass(slots=True)
class JsonNode:
    """A value: its span, and with its key, where it is a member; children in order."""

    start: int
    stop: int
    first: int
    """Where its key begins, or the value where it has none."""
    kind: str
    """`{`, `[` or `"` and others for scalars: the first character."""
    key: str = ""
    children: list[JsonNode] = field(default_factory=list)


def json_tree(text: str, start: int, stop: int) -> JsonNode:
    """The value that `text[start:stop]` is; it has to be valid JSON. Nothing is recursive."""
    root = JsonNode(start, stop, start, "")
    stack, key_at, key = [root], -1, ""
    for match in _TOKEN.finditer(text, start, stop):
        at, kind = match.start(), text[match.start()]
        if kind in ",:":
            if kind == ":":
                name = stack[-1].children.pop()
                key_at, key = name.start, text[name.start + 1 : name.stop - 1]
            continue
        if kind in "]}":
            stack.pop().stop = match.end()
            continue
        first = key_at if key_at >= 0 else at
        node = JsonNode(at, match.end(), first, kind, key)
        key_at, key = -1, ""
        stack[-1].children.append(node)
        if kind in "[{":
            stack.append(node)
    return root.children[0]
