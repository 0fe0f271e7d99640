"""The calls that tool results answer: by id in OpenAI's and Anthropic's formats, and by name."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

Access = Literal["read", "write"]
RETRIEVE_TOOLS = ("headroom_retrieve", "tamis_retrieve")
"""Names of tools that give back what was left out. Their results are never compressed again."""
_CALL_BLOCKS = ("tool_use", "mcp_tool_use", "server_tool_use")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WRITE_VERBS = frozenset(
    "add append apply archive assign cancel close commit copy create delete deploy disable drop "
    "edit enable insert install kill make merge mkdir move patch post publish push put remove "
    "rename replace reset restart rm save send set start stop submit touch uninstall update upload "
    "upsert write".split()
)
_READ_VERBS = frozenset(
    "browse cat check count describe diff download fetch find get glob grep head inspect list load "
    "look lookup ls open query read recall retrieve scan search select show stat tail view".split()
)


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: its name, and its arguments as JSON text."""

    name: str | None = None
    arguments: str | None = None


class CallLog:
    """The calls of a conversation so far, by id and by name; a later one replaces an earlier one.

    Some clients count ids anew in each turn, so a result belongs to the last call before it.
    """

    def __init__(self) -> None:
        self._by_id: dict[str, ToolCall] = {}
        self._by_name: dict[str, ToolCall] = {}

    def add_message(self, message: Mapping[str, Any]) -> None:
        """Adds the calls that a message makes."""
        for given in _objects(message.get("tool_calls")):
            self._add(given.get("id"), _function_call(given.get("function")))
        self._add(None, _function_call(message.get("function_call")))
        for block in _objects(message.get("content")):
            if block.get("type") in _CALL_BLOCKS:
                call = ToolCall(_text(block.get("name")), _arguments(block.get("input")))
                self._add(block.get("id"), call)

    def find(self, call_id: Any, name: Any = None) -> ToolCall:
        """The call of an id, else the last of that name; with neither, a call without arguments."""
        if isinstance(call_id, str) and call_id in self._by_id:
            return self._by_id[call_id]
        known = _text(name)
        return self._by_name.get(known or "", ToolCall(known))

    def _add(self, call_id: Any, call: ToolCall) -> None:
        if isinstance(call_id, str):
            self._by_id[call_id] = call
        if call.name:
            self._by_name[call.name] = call


def registered_tools(tools: Sequence[Mapping[str, Any]] | None) -> dict[str, Mapping[str, Any]]:
    """The tools that a request offers its model, by name, in OpenAI's or Anthropic's format."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in _objects(tools):
        inner = tool.get("function")
        described = inner if isinstance(inner, dict) else tool
        if name := _text(described.get("name")):
            found[name] = {**tool, **described}
    return found


def retrieve_tool_of(tools: Collection[str], wanted: str | None) -> str | None:
    """The registered tool that gives back what was left out; None if there is none.

    Args:
        wanted: the name that the request gives it; else one of `RETRIEVE_TOOLS`.
    """
    if wanted is not None:
        return wanted if wanted in tools else None
    return next((name for name in tools if is_retrieve_tool(name)), None)


def is_retrieve_tool(name: str | None, wanted: str | None = None) -> bool:
    """Whether a tool gives back what was left out, also behind a prefix such as `mcp__server__`."""
    return name is not None and (name == wanted or name.rpartition("__")[2] in RETRIEVE_TOOLS)


def matches_any(name: str | None, patterns: Sequence[str]) -> bool:
    """Whether a tool's name is one of the names or matches a pattern, whatever the case."""
    return name is not None and any(fnmatchcase(name.lower(), p.lower()) for p in patterns)


def access_of(name: str | None, tools: Mapping[str, Mapping[str, Any]]) -> Access | None:
    """Whether a tool reads or writes; None where nothing says so.

    A registered tool's `annotations.readOnlyHint` (Model Context Protocol) decides, else the first
    verb of its name, server's prefix aside.
    """
    if name is None:
        return None
    annotations = tools.get(name, {}).get("annotations")
    hint = annotations.get("readOnlyHint") if isinstance(annotations, dict) else None
    if isinstance(hint, bool):
        return "read" if hint else "write"
    for word in _WORD.findall(name.rpartition("__")[2]):
        if (verb := word.lower()) in _WRITE_VERBS:
            return "write"
        if verb in _READ_VERBS:
            return "read"
    return None


def _objects(value: Any) -> Iterable[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _function_call(value: Any) -> ToolCall:
    if not isinstance(value, dict):
        return ToolCall()
    return ToolCall(_text(value.get("name")), _arguments(value.get("arguments")))


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _arguments(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value or None
    return json.dumps(value, ensure_ascii=False)
