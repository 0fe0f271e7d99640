"""JSON, alone or below a status line, and JSON Lines.

Leaves are kept or dropped whole; what is kept with the frames around it and markers is JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.text.readers.code import is_json_container
from tamis.text.readers.outputs.blocks import parse_lines
from tamis.text.readers.outputs.line_table import LineTable, parts_of_lines
from tamis.text.readers.outputs.parts import Level, ParsedOutput, Part
from tamis.text.readers.outputs.table import rows_with_rare_values

FRONT_CHARS = 2_000
_FAILURE = re.compile(
    r'"(?:error|errors|err|exception|error_?message|failure|stderr|traceback|ename|evalue'
    r'|failed_?reason|last_?error|(?:fatal_?)?error_?count|(?:num_?)?fail(?:ed|ures)\w{0,12})"\s*:'
    r'\s*+(?!null|false|""|0\b|\[\s*\]|\{\s*\})'
    r'|"(?:level|severity|lvl|levelname|log\.level)"\s*:\s*(?:"(?:err|fatal|crit|panic|alert|emerg)|[56]0\b)'
    r'|"(?:status|state|result|conclusion|outcome|phase|health|reason)"\s*:\s*"(?:error|fail|fatal'
    r"|unhealthy|crash|timed?_?-?out|cancell?ed|OOMKilled|evicted|imagepull)"
    r'|"exit_?(?:code|status)"\s*:\s*-?[1-9]|"returncode"\s*:\s*-?[1-9]'
    r'|"status(?:_?code)?"\s*:\s*"?[45]\d\d\b',
    re.I,
)
_OUTCOME = re.compile(
    r'"(?:exit_?(?:code|status)|returncode|total|total_?count|count|has_?more|next_?(?:page|cursor))"\s*:',
    re.I,
)
_WARNING = re.compile(r'"(?:level|severity|lvl)"\s*:\s*"warn', re.I)


def json_level(text: str) -> Level:
    """How much a value matters, by its own text with its key; 2,000 characters of it are seen.

    Of a longer one they are its front, and as many at its end, where sorted keys have a level.
    """
    front = text[:FRONT_CHARS]
    if len(text) > FRONT_CHARS:
        front += "\n" + text[max(FRONT_CHARS, len(text) - FRONT_CHARS) :]
    if _FAILURE.search(front):
        return Level.MESSAGE
    if len(text) < 80 and _OUTCOME.match(front):
        return Level.OUTCOME
    return Level.WARNING if _WARNING.search(front) else Level.ORDINARY


def unusual_elements(values: Sequence[Any]) -> set[int]:
    """Which objects of an array have a value that hardly any other has, in a field of few values.

    Of 300 users, the one who is suspended.
    """
    fields: dict[str, dict[int, str]] = {}
    for i, value in enumerate(values):
        for key, item in _scalars(value).items():
            fields.setdefault(key, {})[i] = item
    rare = (rows_with_rare_values(of, len(values), len(of)) for of in fields.values())
    return set().union(*rare)


def _scalars(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        key: str(item)[:80]
        for key, item in value.items()
        if isinstance(item, str | int | bool | type(None))
    }


_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},:]|[^\s\[\]{},:"]+', re.S)


def json_tokens(text: str) -> list[str]:
    """The tokens of valid JSON: brackets, commas, colons, and scalars as they are written."""
    return _TOKEN.findall(text)


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


LEAF_CHARS, MOST_LEAF_CHARS, LEAF_SHARE = 300, 1_500, 0.04
"""Arrays and objects up to this share of the text, within these bounds, are kept or dropped whole:
of a list of orders, an order."""
SMALL_CHARS, SMALL_LEAF_CHARS = 6_000, 40
"""Members of a text up to this length, of which little may be kept, are chosen one by one."""
MOST_DEPTH = 16
"""Values that lie deeper are parts of their container."""
GROUP_CHARS = 120
"""Short scalars of an array stand together in parts of about this size."""
SCALAR_CHARS = 40
NAME_CHARS = 120
"""An array of such scalars alone is an enumeration."""
STRING_CHARS = 400
"""Longer strings of several lines are cut into their lines."""
_STRING_LINE = re.compile(r"(?:[^\\]|\\[^n])*\\n|(?:[^\\]|\\[^n])+", re.S)
_NAMES = frozenset(("id", "name", "key", "title", "path", "file", "kind", "uid", "number", "url"))
_NAME_CHARS = 120
_MOST_NAMES = 2


class JsonParts:
    """Appends the parts of one value to a list."""

    def __init__(self, text: str, parts: list[Part]) -> None:
        self.text, self.parts = text, parts
        least = LEAF_CHARS if len(text) > SMALL_CHARS else SMALL_LEAF_CHARS
        self.leaf_chars = min(max(least, int(LEAF_SHARE * len(text))), MOST_LEAF_CHARS)

    def add_root(self, node: JsonNode, value: Any) -> None:
        """The parts of a whole text's array or object, however small it is."""
        whole = Part(node.first, node.stop, 1, 1, unit="elements", place="element")
        self._add_container(node, value, whole)

    def _add(self, node: JsonNode, value: Any, whole: Part) -> None:
        """Adds a value: whole, or cut into parts where it is large."""
        most = STRING_CHARS if node.kind == '"' else self.leaf_chars
        is_cut = node.stop - node.start > most and len(whole.needs) < MOST_DEPTH
        if is_cut and node.kind in "[{" and node.children:
            self._add_container(node, value, whole)
        elif not (is_cut and node.kind == '"' and self._add_string(node, whole)):
            level = min(whole.level, json_level(self.text[node.first : node.stop]))
            self.parts.append(whole._replace(level=level))

    def _add_container(self, node: JsonNode, value: Any, whole: Part) -> None:
        """Its opening with its key, its children, its end; children need both."""
        opening = self._frame(whole, node.first, node.start + 1)
        first = len(self.parts)
        inner = (*whole.needs, opening)
        if node.kind == "[":
            self._add_elements(node, value, inner)
        else:
            is_list = len(node.children) > 1 and all(c.kind == "{" for c in node.children)
            said = Level.DETAIL if self._says_failure(node) else Level.ORDINARY
            for n, child in enumerate(node.children, 1):
                item = value.get(child.key) if isinstance(value, dict) else None
                level = said if child.kind in '"[' else Level.ORDINARY
                member = Part(child.first, child.stop, n, n, level, "members", inner)
                self._add(child, item, member._replace(place="member", is_entry=is_list))
        closing = self._frame(whole, node.stop - 1, node.stop)
        is_named = node.kind == "{" and whole.place == "element" and whole.is_entry
        names = self._names(first, closing, inner) if is_named else ()
        for i in range(first, closing):
            needs = (*self.parts[i].needs, closing, *(n for n in names if n != i))
            self.parts[i] = self.parts[i]._replace(needs=needs)

    def _says_failure(self, node: JsonNode) -> bool:
        """Whether a scalar of an object says that it failed: its texts and lists say what."""
        scalars = (child for child in node.children if child.kind not in "[{")
        return any(json_level(self.text[c.first : c.stop]) == Level.MESSAGE for c in scalars)

    def _add_elements(self, node: JsonNode, value: Any, frames: tuple[int, ...]) -> None:
        values = value if isinstance(value, list) and len(value) == len(node.children) else []
        unusual = unusual_elements(values)
        if _is_enumeration(node):
            # one that looks complete and is not says that the others do not exist
            self._add_group(node, range(len(node.children)), frames)
            return
        group: list[int] = []
        for i, child in enumerate(node.children):
            is_short = child.kind not in "[{" and child.stop - child.start <= SCALAR_CHARS
            if group and not (
                is_short and child.stop - node.children[group[0]].start <= GROUP_CHARS
            ):
                self._add_group(node, group, frames)
                group = []
            if is_short:
                group.append(i)
                continue
            level = Level.WARNING if i in unusual else Level.ORDINARY
            item = values[i] if values else None
            element = Part(child.first, child.stop, i + 1, i + 1, level, "elements", frames)
            self._add(child, item, element._replace(place="element", is_entry=True))
        if group:
            self._add_group(node, group, frames)

    def _add_group(self, node: JsonNode, group: Sequence[int], frames: tuple[int, ...]) -> None:
        first, last = node.children[group[0]], node.children[group[-1]]
        span = first.start, last.stop, group[0] + 1, group[-1] + 1
        self.parts.append(
            Part(*span, unit="elements", needs=frames, place="element", is_entry=True)
        )

    def _add_string(self, node: JsonNode, whole: Part) -> bool:
        """A string of several lines: its lines as parts, by what they say; False for others."""
        raw = self.text[node.start + 1 : node.stop - 1]
        lines = _STRING_LINE.findall(raw)
        if len(lines) < 4:
            return False
        table = LineTable(json.loads(self.text[node.start : node.stop]), split_redraws=False)
        if len(table) != len(lines):
            return False
        found = parse_lines(table).parts
        opening = self._frame(whole, node.first, node.start + 1)
        base, closing = len(self.parts), len(self.parts) + len(found)
        edges = [node.start + 1]
        for line in lines:
            edges.append(edges[-1] + len(line))
        for part in found:
            needs = (*whole.needs, opening, closing, *(j + base for j in part.needs))
            start, stop = edges[part.first - 1], edges[part.last]
            self.parts.append(
                part._replace(start=start, stop=stop, needs=needs, run=-1, place="string_line")
            )
        self._frame(whole, node.stop - 1, node.stop)
        return True

    def _names(self, first: int, stop: int, inner: tuple[int, ...]) -> tuple[int, ...]:
        """The object's own members that say which object of an array it is."""
        found: list[int] = []
        for i in range(first, stop):
            part = self.parts[i]
            is_own = part.place == "member" and part.needs == inner and not part.is_frame
            if not is_own or part.stop - part.start > _NAME_CHARS:
                continue
            if self.text[part.start + 1 : part.start + 8].split('"')[0] in _NAMES:
                found.append(i)
                if len(found) == _MOST_NAMES:
                    break
        return tuple(found)

    def _frame(self, whole: Part, start: int, stop: int) -> int:
        """Adds a bracket of what would be this part; its number."""
        frame = whole._replace(start=start, stop=stop, level=Level.ORDINARY, is_frame=True)
        self.parts.append(frame)
        return len(self.parts) - 1


def _is_enumeration(node: JsonNode) -> bool:
    """Whether an array names things: roles, files, ids. It is shown whole or not at all."""
    return all(
        child.kind not in "[{" and child.stop - child.start <= NAME_CHARS for child in node.children
    )


_LINE = re.compile(r"[^\n]+")
_LEAST_LINES = 3


def parse_json_lines(text: str, call: str) -> ParsedOutput | None:
    """The lines of a text of which each is a JSON array or object, or blank."""
    if not text.lstrip().startswith(("{", "[")) or text.count("\n") < _LEAST_LINES - 1:
        return None
    rows = [match.group() for match in _LINE.finditer(text) if match.group().strip()]
    if len(rows) < _LEAST_LINES or not all(is_json_container(row.strip()) for row in rows):
        return None
    lines = LineTable(text, split_redraws=False)
    for i, (start, stop) in enumerate(zip(lines.starts, lines.stops, strict=True)):
        lines.mark(i, json_level(text[start:stop]))
    found = parts_of_lines(lines, "jsonl")
    return ParsedOutput("jsonl", [p._replace(place="json_line") for p in found.parts], found.runs)


_START = re.compile(r"^[ \t]*([\[{])", re.M)
_ATTEMPTS = 3
_LEAST_SHARE = 0.5
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)


def parse_json(text: str, call: str) -> ParsedOutput | None:
    """The parts of a text that is mostly one JSON array or object."""
    found = _find_json(text)
    if found is None:
        return None
    start, stop, value = found
    parts: list[Part] = []
    add_lines(parts, text, 0, start)
    JsonParts(text, parts).add_root(json_tree(text, start, stop), value)
    add_lines(parts, text, stop, len(text))
    is_notebook = isinstance(value, dict) and "cells" in value and "nbformat" in value
    return ParsedOutput("notebook" if is_notebook else "json", parts)


def _find_json(text: str) -> tuple[int, int, Any] | None:
    """The span of the first array or object that is at least half of the text, and its value."""
    for attempt, match in enumerate(_START.finditer(text)):
        if attempt == _ATTEMPTS:
            return None
        start = match.start(1)
        if len(text) - start < _LEAST_SHARE * len(text):
            return None
        try:
            value, stop = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if stop - start >= _LEAST_SHARE * len(text.rstrip()) and value:
            return start, stop, value
    return None


def add_lines(parts: list[Part], text: str, start: int, stop: int) -> None:
    """Lines beside what has a format of its own; white space alone is no part."""
    if not text[start:stop].strip():
        return
    found = parse_lines(LineTable(text[start:stop])).parts
    above, base = text.count("\n", 0, start), len(parts)
    for part in found:
        parts.append(
            part._replace(
                start=part.start + start,
                stop=part.stop + start,
                first=part.first + above,
                last=part.last + above,
                needs=tuple(j + base for j in part.needs),
                run=-1,
            )
        )
