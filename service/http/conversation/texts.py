"""The texts of a conversation, each with its place, the call it answers, and the cache's end.

Calls are found by id in OpenAI's and Anthropic's formats, and by name.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from tamis.compressors.tools.steps import (
    KEEP_LAST,
    Access,
    Superseded,
    name_access,
    superseded_steps,
)
from tamis.compressors.tools.types import ToolOutput

RETRIEVE_TOOLS = ("headroom_retrieve", "tamis_retrieve")
"""Names of tools that give back what was left out. Their results are never compressed again."""
_CALL_BLOCKS = ("tool_use", "mcp_tool_use", "server_tool_use")


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

    @property
    def names(self) -> set[str]:
        """The names of all tools that were called."""
        return set(self._by_name)

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
    return name_access(name)


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


_TOOL_ROLES = ("tool", "function")
_RESULT_BLOCKS = ("tool_result", "mcp_tool_result")


@dataclass(frozen=True, slots=True)
class MessageText:
    """A text inside a message.

    Attributes:
        message: the index of the message. role: of the message.
        path: the keys that lead to the text from the message, such as `("content", 0, "text")`.
        holder: the object that has it, as `holder[key]`.
        call: the call whose result it is; None for what is no result of a tool.
        is_error: whether that call failed, as the result says; None where it says nothing.
    """

    message: int
    role: str
    path: tuple[str | int, ...]
    holder: dict[str, Any]
    call: ToolCall | None
    is_error: bool | None = None

    @property
    def key(self) -> str:
        """The last key of the path."""
        return str(self.path[-1])

    @property
    def text(self) -> str:
        """The text itself."""
        return str(self.holder[self.key])

    @property
    def part(self) -> int | None:
        """The index of its block in the content; None where the content is one text."""
        return self.path[1] if len(self.path) > 1 and isinstance(self.path[1], int) else None

    @property
    def pointer(self) -> str:
        """Its place in the request, as a JSON pointer (RFC 6901)."""
        return "/".join(("", "messages", str(self.message), *map(str, self.path)))

    def replace(self, text: str) -> None:
        """Puts another text in its place."""
        self.holder[self.key] = text


def message_texts(messages: Sequence[dict[str, Any]]) -> tuple[list[MessageText], int]:
    """The texts in order, and how many of them stand before the last `cache_control`.

    A provider caches the prompt up to such a breakpoint, the block that carries it included.
    """
    log, texts, cached = CallLog(), list[MessageText](), 0
    for index, message in enumerate(messages):
        for found in _walk_message(index, message, log):
            if found is None:
                cached = len(texts)
            else:
                texts.append(found)
        log.add_message(message)
    return texts, cached


def needless_results(
    texts: Sequence[MessageText], messages: Sequence[Mapping[str, Any]]
) -> list[tuple[MessageText, Superseded]]:
    """The results that a later step made needless.

    Those behind the model's last answer stay, and of several that answer one call all.

    Args:
        texts: of all the messages.
    """
    results = [text for text in texts if text.call is not None]
    answers = Counter(id(text.call) for text in results)
    steps = list[ToolOutput]()
    for text in results:
        call = text.call
        is_known = call and call.arguments is not None and answers[id(call)] == 1
        name, arguments = (call.name, call.arguments) if call and is_known else (None, None)
        steps.append(ToolOutput(text.text, name, arguments, text.is_error))
    answered = max((i for i, m in enumerate(messages) if m.get("role") == "assistant"), default=-1)
    last = sum(text.message > answered for text in results)
    found = superseded_steps(steps, max(KEEP_LAST, last))
    return [(results[i], why) for i, why in found.items()]


def _walk_message(
    index: int, message: dict[str, Any], log: CallLog
) -> Iterator[MessageText | None]:
    """The texts of a message in order, and None after each block that has `cache_control`."""
    is_result = message["role"] in _TOOL_ROLES
    call = log.find(message.get("tool_call_id"), message.get("name")) if is_result else None
    root = MessageText(index, message["role"], ("content",), message, call)
    yield from _walk_content(root, log)
    if message.get("cache_control"):
        yield None


def _walk_content(at: MessageText, log: CallLog) -> Iterator[MessageText | None]:
    content = at.holder.get("content")
    if isinstance(content, str):
        yield at
    for i, part in enumerate(content if isinstance(content, list) else ()):
        if not isinstance(part, dict):
            continue
        path = (*at.path, i)
        if part.get("type") in _RESULT_BLOCKS:
            call = log.find(part.get("tool_use_id"))
            said = part.get("is_error")
            is_error = said if isinstance(said, bool) else None
            inner = MessageText(at.message, at.role, (*path, "content"), part, call, is_error)
            yield from _walk_content(inner, log)
        elif isinstance(part.get("text"), str):
            yield MessageText(at.message, at.role, (*path, "text"), part, at.call, at.is_error)
        if part.get("cache_control"):
            yield None
