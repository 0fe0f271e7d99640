"""From a JSON value to parts: leaves that are kept or dropped whole, and the frames around them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.probes.segmentation.tool_output.line_table import LineTable
from tamis.probes.segmentation.tool_output.parse import parse_lines
from tamis.probes.segmentation.tool_output.parts import Level, Part, PartUnit, Place
from tamis.probes.segmentation.tool_output.rare_values import rows_with_rare_values

FRONT_CHARS = 2_000
_FAILURE = re.compile(
    r'"(?:error|errors|err|exception|error_?message|failure|stderr|traceback|ename|evalue'
    r'|failed_?reason|last_?error)"\s*:\s*(?!null|false|""|0\b|\[\s*\]|\{\s*\})'
    r'|"(?:level|severity|lvl|levelname|log\.level)"\s*:\s*"(?:error|fatal|critical|panic|emerg)'
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
    """How much a value matters, by its own text with its key; 2,000 characters of it are seen."""
    front = text[:FRONT_CHARS]
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
MOST_DEPTH = 16
"""Values that lie deeper are parts of their container."""
GROUP_CHARS = 120
"""Short scalars of an array stand together in parts of about this size."""
SCALAR_CHARS = 40
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
        self.leaf_chars = min(max(LEAF_CHARS, int(LEAF_SHARE * len(text))), MOST_LEAF_CHARS)

    def add_root(self, node: JsonNode, value: Any) -> None:
        """The parts of a whole text's array or object, however small it is."""
        self._add_container(node, value, 1, "elements", "element", ())

    def _add(
        self,
        node: JsonNode,
        value: Any,
        ordinal: int,
        unit: PartUnit,
        place: Place,
        frames: tuple[int, ...],
        level: Level = Level.ORDINARY,
    ) -> None:
        size = node.stop - node.start
        is_deep = len(frames) >= MOST_DEPTH
        if node.kind in "[{" and node.children and size > self.leaf_chars and not is_deep:
            self._add_container(node, value, ordinal, unit, place, frames)
        elif (
            node.kind == '"'
            and size > STRING_CHARS
            and not is_deep
            and self._add_string(node, ordinal, unit, place, frames)
        ):
            return
        else:
            level = min(level, json_level(self.text[node.first : node.stop]))
            start, stop = node.first, node.stop
            self.parts.append(Part(start, stop, ordinal, ordinal, level, unit, frames, place=place))

    def _add_container(
        self,
        node: JsonNode,
        value: Any,
        ordinal: int,
        unit: PartUnit,
        place: Place,
        frames: tuple[int, ...],
    ) -> None:
        """Its opening with its key, its children, its end; children need both."""
        opening = self._frame(node.first, node.start + 1, ordinal, unit, place, frames)
        first = len(self.parts)
        inner = (*frames, opening)
        if node.kind == "[":
            self._add_elements(node, value, inner)
        else:
            for number, child in enumerate(node.children, 1):
                item = value.get(child.key) if isinstance(value, dict) else None
                self._add(child, item, number, "members", "member", inner)
        closing = self._frame(node.stop - 1, node.stop, ordinal, unit, place, frames)
        names = self._names(first, closing) if node.kind == "{" and place == "element" else ()
        for i in range(first, closing):
            needs = (*self.parts[i].needs, closing, *(n for n in names if n != i))
            self.parts[i] = self.parts[i]._replace(needs=needs)

    def _add_elements(self, node: JsonNode, value: Any, frames: tuple[int, ...]) -> None:
        values = value if isinstance(value, list) and len(value) == len(node.children) else []
        unusual = unusual_elements(values)
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
            self._add(child, item, i + 1, "elements", "element", frames, level)
        if group:
            self._add_group(node, group, frames)

    def _add_group(self, node: JsonNode, group: list[int], frames: tuple[int, ...]) -> None:
        first, last = node.children[group[0]], node.children[group[-1]]
        ordinals = group[0] + 1, group[-1] + 1
        self.parts.append(
            Part(
                first.start,
                last.stop,
                *ordinals,
                unit="elements",
                needs=frames,
                place="element",
            )
        )

    def _add_string(
        self,
        node: JsonNode,
        ordinal: int,
        unit: PartUnit,
        place: Place,
        frames: tuple[int, ...],
    ) -> bool:
        """A string of several lines: its lines as parts, by what they say; False for others."""
        raw = self.text[node.start + 1 : node.stop - 1]
        lines = _STRING_LINE.findall(raw)
        if len(lines) < 4:
            return False
        table = LineTable(json.loads(self.text[node.start : node.stop]), split_redraws=False)
        if len(table) != len(lines):
            return False
        found = parse_lines(table).parts
        opening = self._frame(node.first, node.start + 1, ordinal, unit, place, frames)
        base, closing = len(self.parts), len(self.parts) + len(found)
        edges = [node.start + 1]
        for line in lines:
            edges.append(edges[-1] + len(line))
        for part in found:
            needs = (*frames, opening, closing, *(j + base for j in part.needs))
            start, stop = edges[part.first - 1], edges[part.last]
            self.parts.append(
                part._replace(start=start, stop=stop, needs=needs, run=-1, place="string_line")
            )
        self._frame(node.stop - 1, node.stop, ordinal, unit, place, frames)
        return True

    def _names(self, first: int, stop: int) -> tuple[int, ...]:
        """The members that say which object of an array it is."""
        found: list[int] = []
        for i in range(first, stop):
            part = self.parts[i]
            if part.place != "member" or part.is_frame or part.stop - part.start > _NAME_CHARS:
                continue
            if self.text[part.start + 1 : part.start + 8].split('"')[0] in _NAMES:
                found.append(i)
                if len(found) == _MOST_NAMES:
                    break
        return tuple(found)

    def _frame(
        self,
        start: int,
        stop: int,
        ordinal: int,
        unit: PartUnit,
        place: Place,
        frames: tuple[int, ...],
    ) -> int:
        self.parts.append(
            Part(
                start,
                stop,
                ordinal,
                ordinal,
                unit=unit,
                needs=frames,
                is_frame=True,
                place=place,
            )
        )
        return len(self.parts) - 1
