"""The texts of a conversation, each with its place, the call it answers, and the cache's end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tamis.service.http.conversation.calls import CallLog, ToolCall

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
    """

    message: int
    role: str
    path: tuple[str | int, ...]
    holder: dict[str, Any]
    call: ToolCall | None

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
            inner = MessageText(at.message, at.role, (*path, "content"), part, call)
            yield from _walk_content(inner, log)
        elif isinstance(part.get("text"), str):
            yield MessageText(at.message, at.role, (*path, "text"), part, at.call)
        if part.get("cache_control"):
            yield None
