"""`POST /v1/compress` with `messages`: Headroom's dialect, for conversations with tool results.

messages ─ tool results ─► documents ─ compressed for the last question ─► the same messages

By default only tool results are compressed: a model must see instructions and turns as written, and
a prompt whose beginning is unchanged stays in its provider's cache. Text before the last
`cache_control`, its own block included, is therefore not changed. Every message keeps its position
and all its fields; nothing is rewritten.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import LenientRequest, Question, Response, Text
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.http.schemas.compression import Compression

_TOOL_ROLES = ("tool", "function")
_SYSTEM_ROLES = ("system", "developer")


class MessagesConfig(LenientRequest):
    """What may be compressed, and how far."""

    compress_user_messages: bool = False
    compress_system_messages: bool = False
    compress_cached: Annotated[
        bool,
        Field(description="Also what stands before the last cache_control: it is cached anew."),
    ] = False
    protect_recent: Annotated[int, Field(ge=0, le=2**31)] = 0
    target_ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    min_tokens_to_compress: Annotated[int, Field(ge=0, le=2**31)] = 250


class Message(LenientRequest):
    """A message in OpenAI's or Anthropic's format; other fields are returned unchanged."""

    model_config = ConfigDict(strict=True, extra="allow")

    role: Text
    content: Text | list[dict[str, Any]] | None = None
    _given: Any = PrivateAttr(None)

    @model_validator(mode="wrap")
    @classmethod
    def _remember_input(cls, given: Any, handler: ModelWrapValidatorHandler[Message]) -> Message:
        message = handler(given)
        message._given = given
        return message

    def original(self) -> dict[str, Any]:
        """A copy of the message as it was sent, its fields in their order."""
        copy: dict[str, Any] = deepcopy(self._given)
        return copy

    def _field_warnings(self, prefix: str) -> Iterator[str]:
        yield from ()  # all other fields are returned


class MessagesRequest(LenientRequest):
    """A conversation whose tool results are to be compressed.

    The question is the last user message, or `query`. `token_budget` is for all messages together.
    """

    messages: Annotated[list[Message], Field(min_length=1)]
    query: Question | None = None
    model: Text | None = None
    token_budget: Annotated[int, Field(ge=1, le=2**31)] | None = None
    config: MessagesConfig = MessagesConfig()


class MessagesAnswer(Response):
    """The same messages, compressed; the last three fields are Headroom's."""

    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int
    tokens_saved: int
    compression_ratio: float
    warnings: list[Text]
    transforms_applied: list[str]
    transforms_summary: dict[str, int]
    ccr_hashes: list[str]


@dataclass(frozen=True, slots=True)
class TextSlot:
    """A text inside a message: `holder[key]`; `tool` is true for a tool's result."""

    message_index: int
    holder: dict[str, Any]
    key: str
    tool: bool

    @property
    def text(self) -> str:
        """The text itself."""
        return str(self.holder[self.key])


class Conversation:
    """The texts of a conversation, and which of them may be compressed."""

    def __init__(self, body: MessagesRequest, count: Callable[[str], int]) -> None:
        self.body, self.count = body, count
        self.messages = [message.original() for message in body.messages]
        marked = [
            slot
            for i, message in enumerate(self.messages)
            for slot in _slots_and_breakpoints(i, message)
        ]
        texts = [slot for slot in marked if slot is not None]
        cached = 0 if body.config.compress_cached else _count_cached(marked)
        # the last message with text of a user; -1 without any
        self.last_question_index = max(
            (i for i, m in enumerate(self.messages) if _user_text(i, m)), default=-1
        )
        tokens = [count(slot.text) for slot in texts]
        self.tokens_before = sum(tokens)
        least = body.config.min_tokens_to_compress
        compressible = list(zip(texts, tokens, strict=True))[cached:]
        self.compressible = [
            (slot, n) for slot, n in compressible if n >= least and self._is_compressible(slot)
        ]
        self.compressible_tokens = sum(n for _, n in self.compressible)

    def compress_request(self) -> CompressRequest | None:
        """The request that compresses the texts; None where nothing may be compressed.

        Raises:
            BadInput: no question, or the rest of the messages exceeds the budget.
        """
        if not self.compressible:
            return None
        most = self.body.token_budget
        if most is not None:
            fixed = self.tokens_before - self.compressible_tokens
            if fixed >= most:
                raise BadInput(
                    f"token_budget is {most:,} and the messages that stay as they are take "
                    f"{fixed:,}; raise it, or allow more in config"
                )
            most -= fixed
        return CompressRequest(
            model=self.body.model,
            query=self._question(),
            history=[],
            documents=[slot.text for slot, _ in self.compressible],
            max_tokens=self._token_limit(most),
            ratio=self.body.config.target_ratio if most is None else None,
        )

    def _token_limit(self, tokens: int | None) -> int | None:
        """The token limit; with `target_ratio` the smaller of both."""
        share = self.body.config.target_ratio
        if tokens is None or share is None:
            return tokens
        return min(tokens, max(1, math.floor(share * self.compressible_tokens)))

    def answer(self, found: Compression | None) -> MessagesAnswer:
        """The messages, each text replaced by what was kept of it."""
        after = self.tokens_before - self.compressible_tokens
        for (slot, tokens), result in zip(
            self.compressible, (found and found.results) or [], strict=True
        ):
            if not (found and self._fits(found)):
                slot.holder[slot.key] = result.text or ""
                tokens = self.count(slot.text)
            after += tokens
        applied = [f"tamis:{found.method}"] if found else []
        nothing = ["no text was free and long enough to compress"]
        return MessagesAnswer(
            messages=self.messages,
            tokens_before=self.tokens_before,
            tokens_after=after,
            tokens_saved=self.tokens_before - after,
            compression_ratio=after / self.tokens_before if self.tokens_before else 1.0,
            warnings=[*(found.warnings if found else nothing), *self.body.field_warnings()],
            transforms_applied=applied,
            transforms_summary=dict.fromkeys(applied, len(self.compressible)),
            ccr_hashes=[],
        )

    def _fits(self, found: Compression) -> bool:
        """Whether all texts may stay unchanged, surrounding white space included."""
        most = self.body.token_budget
        return found.status == "passthrough" and (most is None or self.tokens_before <= most)

    def _is_compressible(self, slot: TextSlot) -> bool:
        config, role = self.body.config, self.messages[slot.message_index]["role"]
        if slot.message_index >= len(self.messages) - config.protect_recent:
            return False
        if slot.tool:
            return True
        if role in _SYSTEM_ROLES:
            return config.compress_system_messages
        return (
            role == "user"
            and config.compress_user_messages
            and slot.message_index != self.last_question_index
        )

    def _question(self) -> str:
        if self.body.query is not None:
            return self.body.query
        if self.last_question_index < 0:
            raise BadInput("no user message asks anything; add one, or give query")
        return _user_text(self.last_question_index, self.messages[self.last_question_index])


def _user_text(message_index: int, message: dict[str, Any]) -> str:
    """The text of a user's message without tool results; empty for other roles."""
    own = [slot.text for slot in _text_slots(message_index, message) if not slot.tool]
    return "\n".join(t for t in own if t.strip()) if message["role"] == "user" else ""


def _text_slots(message_index: int, message: dict[str, Any]) -> Iterator[TextSlot]:
    """The texts of a message: its content, its parts, and those of tool results."""
    return (slot for slot in _slots_and_breakpoints(message_index, message) if slot is not None)


def _slots_and_breakpoints(
    message_index: int, message: dict[str, Any]
) -> Iterator[TextSlot | None]:
    """The texts of a message in order, and None after each block that has `cache_control`."""
    yield from _walk_content(message_index, message, "content", message["role"] in _TOOL_ROLES)
    if message.get("cache_control"):
        yield None


def _count_cached(marked: list[TextSlot | None]) -> int:
    """How many texts are before the last breakpoint of the provider's cache."""
    last = max((i for i, slot in enumerate(marked) if slot is None), default=0)
    return sum(slot is not None for slot in marked[:last])


def _walk_content(
    message_index: int, holder: dict[str, Any], key: str, tool: bool
) -> Iterator[TextSlot | None]:
    content = holder.get(key)
    if isinstance(content, str):
        yield TextSlot(message_index, holder, key, tool)
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        if part.get("type") == "tool_result":
            yield from _walk_content(message_index, part, "content", True)
        elif isinstance(part.get("text"), str):
            yield TextSlot(message_index, part, "text", tool)
        if part.get("cache_control"):
            yield None
