"""The texts inside a result of a tool, which is any JSON value, each replaced in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_BINARY_TYPES = ("image", "audio", "resource_link", "document", "blob")
_BREAKS = re.compile(r"\s")
_JSON_STARTS = ("{", "[")


@dataclass(frozen=True, slots=True)
class ResultText:
    """A text inside a result: `holder[key]`."""

    holder: Any
    key: Any

    @property
    def text(self) -> str:
        """The text itself."""
        return str(self.holder[self.key])

    def replace(self, text: str) -> None:
        """Puts another text in its place; all around it stays."""
        self.holder[self.key] = text


def result_texts(holder: Any) -> list[ResultText]:
    """The texts of a dict or list, in its order, at any depth.

    Left out are pictures and other data, as far as their types or their lack of white space
    show it.
    """
    found, stack = list[ResultText](), [iter(_entries(holder))]
    while stack:  # a deep result must not end the process by its depth
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif not isinstance(entry.holder[entry.key], str):
            stack.append(iter(_entries(entry.holder[entry.key])))
        elif _is_text(entry.text):
            found.append(entry)
    return found


def replace_texts(texts: Sequence[ResultText], shortened: Sequence[str]) -> bool:
    """Puts the shortened texts in their places. Whether there was any."""
    changed = [pair for pair in zip(texts, shortened, strict=True) if pair[1] != pair[0].text]
    for text, short in changed:
        text.replace(short)
    return bool(changed)


def _entries(value: Any) -> Iterator[ResultText]:
    if isinstance(value, dict):
        if value.get("type") not in _BINARY_TYPES and not value.get("isImage"):
            yield from (ResultText(value, key) for key in value)
    elif isinstance(value, list):
        yield from (ResultText(value, i) for i in range(len(value)))


def _is_text(text: str) -> bool:
    """Whether it has lines or words, or is JSON without them; base64 has neither."""
    return _BREAKS.search(text) is not None or text.startswith(_JSON_STARTS)
