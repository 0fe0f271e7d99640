"""The text that stands for what was left out."""

from __future__ import annotations

import json

from tamis.compressors.tools.types import Omission
from tamis.text.readers.outputs.parts import Place


def default_marker(omission: Omission, key: str | None = None) -> str:
    """`[… lines 12-47 omitted, 640 tokens]`, with `; id KEY` where the source can be had again."""
    span = f"{omission.first}-{omission.last}"
    what = f"{omission.unit} {span}"
    if omission.first == omission.last:
        what = f"{_SINGULAR[omission.unit]} {omission.first}"
    if omission.scattered > 1:
        what = f"{omission.scattered} values"
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
    "characters": "character",
}


def embed_marker(text: str, place: Place, key: str, ends_line: bool) -> str:
    """A marker as it stands in the text: a line, a JSON string, a member of a JSON object.

    Args:
        text: what the caller's `Marker` made; its white space becomes blanks.
        key: of the member. ends_line: whether the omitted text ends with a line's end.
    """
    text = " ".join(text.split())
    if place == "line":
        return text + "\n" * ends_line
    quoted = json.dumps(text, ensure_ascii=False)
    if place == "json_line":
        return quoted + "\n" * ends_line
    if place == "string_line":
        return quoted[1:-1] + "\\n" * ends_line
    return f"{json.dumps(key, ensure_ascii=False)}: {quoted}" if place == "member" else quoted
