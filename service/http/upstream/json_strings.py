"""Strings in a JSON text replaced in place: every other byte of it stays."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]

_SPACE = re.compile(r"[ \t\n\r]*")
_ATOM = re.compile(r"[^ \t\n\r,\]}]+")


def replace_strings(text: str, new: Mapping[str, str]) -> str:
    """The JSON text with other strings at some places.

    Args:
        new: by JSON pointer (RFC 6901).

    Raises:
        ValueError: the text is no JSON, or has no string at one of the places.
    """
    spans = string_spans(text, new)
    if missing := sorted(set(new) - set(spans)):
        raise ValueError(f"there is no string at {missing[0]}")
    parts, at = [], 0
    for pointer, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        parts += [text[at:start], json.dumps(new[pointer])]
        at = stop
    return "".join([*parts, text[at:]])


def string_spans(text: str, wanted: Collection[str]) -> dict[str, tuple[int, int]]:
    """Where the strings of some pointers stand, with their quotation marks; half-open.

    Of members with the same name the last counts, as for JSON parsers.
    """
    return {p: span for p, span in _walk(text) if p in wanted}


def _walk(text: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """Every string that is a value, by pointer. A stack of (path, next index or None) is open."""
    at, path, opened = _skip(text, 0), "", list[tuple[str, int | None]]()
    while True:
        char = text[at : at + 1]
        if char == "{" or char == "[":
            opened.append((path, 0 if char == "[" else None))
            at = _skip(text, at + 1)
            if text[at : at + 1] not in ("}", "]"):
                at, path = _enter(text, at, opened)
                continue
        elif char == '"':
            _, stop = scanstring(text, at + 1, False)
            yield path, (at, stop)
            at = stop
        else:
            found = _ATOM.match(text, at)
            if found is None:
                raise ValueError(f"no value at {at}")
            at = found.end()
        while True:  # what closes here, or the next member
            at = _skip(text, at)
            if not opened:
                return
            char = text[at : at + 1]
            if char in ("}", "]") and char:
                opened.pop()
                at += 1
            elif char == ",":
                at, path = _enter(text, _skip(text, at + 1), opened)
                break
            else:
                raise ValueError(f"neither a comma nor an end at {at}")


def _enter(text: str, at: int, opened: list[tuple[str, int | None]]) -> tuple[int, str]:
    """The place and the pointer of the next member of what is open."""
    parent, index = opened[-1]
    if index is not None:
        opened[-1] = (parent, index + 1)
        return at, f"{parent}/{index}"
    if text[at : at + 1] != '"':
        raise ValueError(f"no name at {at}")
    name, at = scanstring(text, at + 1, False)
    at = _skip(text, at)
    if text[at : at + 1] != ":":
        raise ValueError(f"no colon at {at}")
    escaped = name.replace("~", "~0").replace("/", "~1")
    return _skip(text, at + 1), f"{parent}/{escaped}"


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
