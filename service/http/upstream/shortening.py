"""The body of a chat request with shorter results of tools; all other bytes as they came.

Each result is shortened by itself, for its call and the last turn of the user before it: whatever
comes later, it reads the same, so the prompt's beginning stays the same and stays in the provider's
cache. What was shortened once is remembered.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.lru import LruCache
from tamis.service.http.conversation.job import ConversationCall, PreparedConversation
from tamis.service.http.conversation.texts import MessageText, message_texts
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.json import loads
from tamis.service.http.schemas.messages import MessagesAnswer, MessagesRequest
from tamis.service.http.upstream.json_strings import replace_strings

REMEMBERED_CHARS = 1 << 25
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How far one request's results are shortened.

    Attributes:
        ratio: the share of tokens of each result that is kept; None: the service's default.
        method: scores; None: the service's default.
        compresses_cached: also what stands before the last `cache_control`.
        limit_s: the time for all results; those that are not done by then stay whole.
    """

    ratio: float | None = None
    method: str | None = None
    compresses_cached: bool = False
    limit_s: float = 10.0


@dataclass(slots=True)
class ShortChat:
    """A body, and the tokens of the texts in it that were shortened, before and after."""

    body: bytes
    tokens_before: int = 0
    tokens_after: int = 0


@dataclass(frozen=True, slots=True)
class _Result:
    """The shown texts of one message by JSON pointer from the message, and their tokens."""

    texts: Texts
    tokens_before: int
    tokens_after: int


@dataclass(slots=True)
class ChatShortener:
    """Shortens bodies; safe for many requests of one event loop."""

    _remembered: LruCache[_Result] = field(default_factory=lambda: LruCache(REMEMBERED_CHARS))

    async def shorten(
        self, state: ServiceState, body: bytes, options: ChatOptions, owner: str
    ) -> ShortChat:
        """The body with shorter results of tools.

        Args:
            owner: of the API key.

        Raises:
            BadInput: the body is no chat request in UTF-8. TamisError: what cannot be followed.
        """
        try:
            text = body.decode("utf-8")
            chat = await asyncio.to_thread(loads, body)
        except ValueError as error:
            raise BadInput(f"the body is no JSON in UTF-8 ({error})") from error
        messages = chat.get("messages") if isinstance(chat, dict) else None
        if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
            raise BadInput("the body has no list of messages")
        until = time.monotonic() + options.limit_s
        new, short = Texts(), ShortChat(body)
        for index in _result_messages(messages, options.compresses_cached):
            left_s = until - time.monotonic()
            if left_s <= 0:
                break
            found = await self._result(state, messages, index, options, owner, left_s)
            new |= {f"/messages/{index}{pointer}": shown for pointer, shown in found.texts.items()}
            short.tokens_before += found.tokens_before
            short.tokens_after += found.tokens_after
        if new:
            replaced = await asyncio.to_thread(replace_strings, text, new)
            short.body = replaced.encode("utf-8")
        return short

    async def _result(
        self,
        state: ServiceState,
        messages: list[dict[str, Any]],
        index: int,
        options: ChatOptions,
        owner: str,
        left_s: float,
    ) -> _Result:
        request = _request_body(messages, index, options)
        method = state.methods.resolve_method(None, options.method)
        key = hashlib.sha256(json.dumps([method, request], sort_keys=True).encode()).digest()
        if (found := self._remembered.peek(key)) is not None:
            return found
        body = MessagesRequest.model_validate({**request, "timeout_ms": max(1, int(left_s * 1e3))})
        answer = await _answer(ConversationCall(state, body, method, owner), left_s)
        found = _result_of(answer, len(request["messages"]) - 1)
        if answer.status != "partial":
            cost = sum(map(len, found.texts.values())) + 256
            self._remembered.put(key, cost, found)
        return found


def _result_messages(messages: list[dict[str, Any]], compresses_cached: bool) -> list[int]:
    """The indexes of messages with results of tools that may be changed."""
    known = [m if isinstance(m.get("role"), str) else {**m, "role": ""} for m in messages]
    texts, cached = message_texts(known)
    free = texts if compresses_cached else texts[cached:]
    # a message that has a breakpoint in it stays whole, so that one rule covers all of it
    frozen = {t.message for t in texts[:cached]} if not compresses_cached else set[int]()
    return sorted({t.message for t in free if t.call is not None} - frozen)


def _request_body(
    messages: list[dict[str, Any]], index: int, options: ChatOptions
) -> dict[str, Any]:
    """A conversation of the question, the calls and their results alone."""
    before = messages[:index]
    asked = [m for m in before if _asks(m)][-1:]
    called = [m for m in before if m.get("role") == "assistant"][-1:]
    kept = [*asked, *called, messages[index]]
    config = {"compress_cached": True, "frozen_message_count": len(kept) - 1}
    body: dict[str, Any] = {"messages": kept, "config": config, "language": "en"}
    return body if options.ratio is None else {**body, "ratio": options.ratio}


def _asks(message: dict[str, Any]) -> bool:
    """Whether it is a turn of the user, and not a result of tools that is sent as one."""
    if message.get("role") != "user":
        return False
    texts, _ = message_texts([message])
    return any(_is_words(text) for text in texts)


def _is_words(text: MessageText) -> bool:
    return text.call is None and bool(text.text.strip())


async def _answer(call: ConversationCall, left_s: float) -> MessagesAnswer:
    return await call.state.executor.run_prepared(
        lambda: _prepare(call),
        call.tokens_needed,
        call.finish,
        timeout_ms=call.body.timeout_ms,
        limit_s=left_s + 1,
    )


def _prepare(call: ConversationCall) -> PreparedConversation:
    return call.prepare(call.read())


def _result_of(answer: MessagesAnswer, index: int) -> _Result:
    prefix = f"/messages/{index}"
    texts = Texts()
    for one in answer.compressions:
        value: Any = answer.messages[index]
        for step in one.path.removeprefix(prefix).split("/")[1:]:
            value = value[int(step) if isinstance(value, list) else step]
        texts[one.path.removeprefix(prefix)] = value
    before = sum(one.tokens_before for one in answer.compressions)
    return _Result(texts, before, sum(one.tokens_after for one in answer.compressions))
