"""The text that stands for what was left out."""

from __future__ import annotations

import json

from tamis.compressors.tools.types import Marker, Omission


def default_marker(omission: Omission, key: str | None = None) -> str:
    """`[… lines 12-47 omitted, 640 tokens]`, with `; id KEY` where the source can be had again."""
    span = f"{omission.first}-{omission.last}"
    what = f"{omission.unit} {span}"
    if omission.first == omission.last:
        what = f"{_SINGULAR[omission.unit]} {omission.first}"
    content = f"{omission.content}, " if omission.content else ""
    unit = "token" if omission.tokens == 1 else "tokens"
    ending = f"; id {key}" if key else ""
    return f"[… {content}{what} omitted, {omission.tokens} {unit}{ending}]"


_SINGULAR = {
    "lines": "line",
    "elements": "element",
    "members": "member",
    "rows": "row",
    "entries": "entry",
}


def embed_marker(omission: Omission, marker: Marker, is_json: bool, source: str) -> str:
    """The marker as it stands in the text: a line, a JSON string, or a member of a JSON object."""
    text = " ".join(marker(omission).split())
    if omission.unit == "elements":
        return json.dumps(text, ensure_ascii=False)
    if omission.unit == "members":
        key = json.dumps(f"… {omission.first}-{omission.last}", ensure_ascii=False)
        while key in source:
            key = f'{key[:-1]}…"'
        return f"{key}: {json.dumps(text, ensure_ascii=False)}"
    if is_json:
        text = json.dumps(text, ensure_ascii=False)
    return text + "\n" if source[omission.stop - 1 : omission.stop] in _LINE_ENDS else text


_LINE_ENDS = ("\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
