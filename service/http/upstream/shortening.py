"""The body of a chat request with shorter results of tools; all other bytes as they came.

Each result is shortened by itself, for its call and the last turn of the user before it: whatever
comes later, it reads the same, so the prompt's beginning stays the same and stays in the provider's
cache. What was shortened once is remembered. Retrieved context between tags is shortened for the
user's turn that it is in; that in a system's message for the last turn, which changes.

Of many tools those are sent that fit the turns of the user (`ToolRanker.choose`), which changes as
little.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

from tamis.compressors.registry import method_info
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.lru import LruCache
from tamis.service.api.rank_tools import ToolDefinition, read_tools
from tamis.service.engine.errors import OutOfTime, Overloaded
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.conversation.candidates import is_prompt
from tamis.service.http.conversation.job import ConversationCall, PreparedConversation
from tamis.service.http.conversation.providers import Turn, read_turns, without_breakpoints
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.conversation.texts import CallLog, message_texts
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.runtime.executor import TimeLimits, estimate_tokens
from tamis.service.http.runtime.settings import flag
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.json import loads
from tamis.service.http.schemas.messages import MessagesAnswer, MessagesRequest

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


def keep_elements(text: str, name: str, kept: Collection[int]) -> str:
    """The JSON text of an object with some elements of a member alone, as they stand there.

    Args:
        name: of the member, an array; of members with the same name the last counts.
        kept: the indexes of the elements that stay.

    Raises:
        ValueError: the text is no JSON object with such an array.
    """
    decoder, spans = json.JSONDecoder(), list[tuple[int, int]]()
    opened: list[tuple[str, int | None]] = [("", None)]
    at, start, stop = _skip(text, 0), -1, -1
    while text[at : at + 1] in ("{", ","):
        at, path = _enter(text, _skip(text, at + 1), opened)
        _, end = decoder.raw_decode(text, at)
        if path == f"/{name}":
            start, stop = at, end
        at = _skip(text, end)
    if text[start : start + 1] != "[":
        raise ValueError(f"there is no array {name}")
    at = _skip(text, start + 1)
    while at < stop - 1:
        _, end = decoder.raw_decode(text, at)
        spans.append((at, end))
        at = _skip(text, _skip(text, end) + 1)
    parts = ",".join(text[slice(*span)] for i, span in enumerate(spans) if i in kept)
    return f"{text[:start]}[{parts}]{text[stop:]}"


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


JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A request with `messages` in which one message alone may be changed.

    Attributes:
        place: the index of that message in it.
    """

    body: JsonObject
    place: int


class ChatTurns:
    """The messages of a chat, in any of the shapes of `conversation/providers.py`.

    Args:
        turns: of the body of a request.
        tags: between which texts of users and systems have retrieved context.
    """

    def __init__(self, turns: Sequence[Turn], tags: RetrievalTags) -> None:
        self.messages, self.tags = [turn.message for turn in turns], tags
        self._places = [turn.place for turn in turns]
        self._texts, self._cached = message_texts(self.messages)
        self._prompts = [(t, tags.parse(t.text)) for t in self._texts if is_prompt(t)]
        self._with_results = {text.message for text in self._texts if text.call is not None}
        self._with_words = self._turns_of_users()
        self._asking = sorted(self._with_words)

    @property
    def of_users(self) -> list[str]:
        """The text of each turn of the user, without what stands between tags."""
        turns = dict[int, list[str]]()
        for text, tagged in self._prompts:
            if text.message in self._with_words:
                turns.setdefault(text.message, []).append(tagged.outside)
        return ["\n".join(parts) for parts in turns.values()]

    def pointer(self, index: int, path: str) -> str:
        """The place of a text in the chat's body, by its path from the message."""
        return self._places[index] + path.removeprefix("/content")

    def changeable(self, compresses_cached: bool, warnings: list[str]) -> list[int]:
        """The indexes of messages with results of tools or retrieved context to shorten.

        Args:
            compresses_cached: also before the last `cache_control`.
            warnings: gets those of tags that cannot be followed.
        """
        frozen = set() if compresses_cached else self._before_breakpoint
        found = self._with_results | set(self._with_context(frozen, warnings))
        return sorted(found - frozen)

    @property
    def cached(self) -> list[int]:
        """The indexes of those like `changeable` that stand before the last `cache_control`."""
        with_context = {text.message for text, tagged in self._prompts if tagged.stretches}
        return sorted((self._with_results | with_context) & self._before_breakpoint)

    def beginnings(self) -> list[bytes]:
        """A hash of the conversation up to each message, wherever breakpoints are in it."""
        running, found = hashlib.sha256(), list[bytes]()
        for message in self.messages:
            running.update(json.dumps(without_breakpoints(message), sort_keys=True).encode())
            found.append(running.digest())
        return found

    @property
    def _before_breakpoint(self) -> set[int]:
        """The messages before the last `cache_control`, and all of the one that has it."""
        return {text.message for text in self._texts[: self._cached]}

    def request_body(self, index: int, ratio: float | None) -> TurnRequest:
        """A conversation of the question, the calls and one message, which alone may be changed.

        Args:
            ratio: the share of tokens to keep; None: the service's default.
        """
        before, after = self._around(index)
        kept = [*before, self.messages[index], *after]
        config: JsonObject = {
            "compress_cached": True,
            "frozen_message_count": len(before),
            "protect_recent": len(after),
        }
        body: JsonObject = {"messages": kept, "config": config}
        if index in self._with_results:
            body["language"] = "en"
        if self.tags.names:
            config["retrieval_tags"] = sorted(self.tags.names)
        return TurnRequest(body if ratio is None else {**body, "ratio": ratio}, len(before))

    def _with_context(self, frozen: Collection[int], warnings: list[str]) -> Iterator[int]:
        """The messages with retrieved context, frozen ones aside, the same one more than once."""
        for text, tagged in self._prompts:
            if text.message in frozen:
                continue
            if tagged.fault is not None:
                path = text.pointer.removeprefix(f"/messages/{text.message}")
                place = self.pointer(text.message, path)
                warnings.append(f"{place} stays whole: {tagged.fault}")
            elif tagged.stretches:
                yield text.message

    def _around(self, index: int) -> tuple[list[JsonObject], list[JsonObject]]:
        """The messages before and behind one that say what is asked."""
        at = bisect_left(self._asking, index)
        before = [self.messages[i] for i in self._asking[:at][-1:]]
        if index in self._with_results:
            return [*before, *self._last_call(index)], []
        is_system = self.messages[index].get("role") != "user"
        stop = len(self.messages) if is_system else self._next_answer(index)
        behind = [i for i in self._asking[at:] if index < i < stop][-1:]
        if behind:
            return [], [self.messages[behind[0]]]
        return ([] if index in self._asking[at : at + 1] else before), []

    def _last_call(self, index: int) -> list[JsonObject]:
        called = range(index - 1, -1, -1)
        return [m for m in map(self.messages.__getitem__, called) if _is_answer(m)][:1]

    def _next_answer(self, index: int) -> int:
        """The index of the model's next answer: what comes later does not touch a turn."""
        later = range(index + 1, len(self.messages))
        return next((i for i in later if _is_answer(self.messages[i])), len(self.messages))

    def _turns_of_users(self) -> set[int]:
        """The messages of users that ask, and are not results of tools that are sent as theirs."""
        return {
            text.message
            for text, tagged in self._prompts
            if text.role == "user" and tagged.outside.strip()
        }


def _is_answer(message: JsonObject) -> bool:
    return message.get("role") == "assistant"


_BY_WORDS = "lexical"
REMEMBERED_CHARS = 1 << 25
REMEMBERED_BEGINNINGS = 1 << 16
"""Of conversations, each up to a result that was sent short."""
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How far one request's results are shortened.

    Attributes:
        ratio: the share of tokens of each result that is kept; None: the service's default.
        method: scores; None: the service's default.
        compresses_cached: also what stands before the last `cache_control`.
        limit_s: the time for all texts; those that are not done by then stay whole.
        read_s: the time for reading them; where it would take longer, words decide.
        tools: how many tools are sent; None for all.
    """

    ratio: float | None
    method: str | None
    compresses_cached: bool
    limit_s: float
    read_s: float
    tools: int | None = None


@dataclass(slots=True)
class ShortChat:
    """A body, and the tokens of the texts in it that were shortened, before and after.

    Attributes:
        saved_again: tokens left out of texts that were sent short before in this conversation,
            which the provider's cache would bill.
        warnings: of texts whose tags cannot be followed, and of tools that could not be chosen.
        tools: how many the client gave. left_out: the names of those that are not sent.
    """

    body: bytes
    tokens_before: int = 0
    tokens_after: int = 0
    saved_again: int = 0
    warnings: list[str] = field(default_factory=list)
    tools: int = 0
    left_out: list[str] = field(default_factory=list)

    def add(
        self, turns: ChatTurns, index: int, found: _Result | None, new: Texts, again: bool = True
    ) -> None:
        """Counts the result of a message, and adds its texts to `new` by their places."""
        if found is not None:
            new |= {turns.pointer(index, at): shown for at, shown in found.texts.items()}
            self.tokens_before += found.tokens_before
            self.tokens_after += found.tokens_after
            self.saved_again += again * (found.tokens_before - found.tokens_after)


@dataclass(frozen=True, slots=True)
class _Result:
    """The shown texts of one message by JSON pointer from the message, and their tokens."""

    texts: Texts
    tokens_before: int
    tokens_after: int


@dataclass(slots=True)
class ChatShortener:
    """Shortens bodies; safe for many requests of one event loop.

    Attributes:
        tags: between which texts of users and systems have retrieved context.
    """

    tags: RetrievalTags
    _remembered: LruCache[_Result] = field(default_factory=lambda: LruCache(REMEMBERED_CHARS))
    _sent_short: LruCache[None] = field(default_factory=lambda: LruCache(REMEMBERED_BEGINNINGS))

    async def shorten(
        self, state: ServiceState, body: bytes, options: ChatOptions, entry: RequestLogEntry
    ) -> ShortChat:
        """The body with shorter results of tools.

        Args:
            entry: of the request in the log.

        Raises:
            BadInput: the body is no chat request in UTF-8. TamisError: what cannot be followed.
        """
        text, chat = await asyncio.to_thread(_read_chat, body)
        until = time.monotonic() + options.limit_s
        new, short = Texts(), ShortChat(body)
        turns = await asyncio.to_thread(ChatTurns, read_turns(chat), self.tags)
        tools = await _chosen_tools(state, chat, turns, options.tools, until, short)
        indexes = await asyncio.to_thread(
            turns.changeable, options.compresses_cached, short.warnings
        )
        cached = [] if options.compresses_cached else turns.cached
        begins = await asyncio.to_thread(turns.beginnings) if {*cached, *indexes} else []
        method = state.methods.resolve_method(None, options.method)
        for index in cached:
            # the provider's cache has it as it was sent: short, where it was short then
            if begins[index] in self._sent_short:
                request = turns.request_body(index, options.ratio)
                digest = await asyncio.to_thread(_request_hash, request)
                short.add(turns, index, self._recall(method, digest), new)
        requests = {index: turns.request_body(index, options.ratio) for index in indexes}
        digests = {i: await asyncio.to_thread(_request_hash, requests[i]) for i in indexes}
        known = {index: self._recall(method, digests[index]) for index in indexes}
        unread = [requests[index] for index, found in known.items() if found is None]
        method = _method_in_time(state, method, unread, options.read_s, short)
        for index in indexes:
            left_s = until - time.monotonic()
            if (found := known[index]) is None and left_s > 0:
                call, key = requests[index], (method, digests[index])
                try:
                    found = await self._result(state, call, key, entry, left_s)
                except (Overloaded, OutOfTime) as error:
                    until = 0.0
                    short.warnings.append(f"results from message {index} on stay whole: {error}")
            short.add(turns, index, found, new, begins[index] in self._sent_short)
            if found is not None and found.texts:
                self._sent_short.put(begins[index], 1, None)
        if new or tools is not None:
            short.body = await asyncio.to_thread(_changed_body, text, new, tools)
        return short

    def _recall(self, method: str, digest: bytes) -> _Result | None:
        """What was made of a message before, by the method or by its words."""
        found = self._remembered.peek((method, digest))
        return self._remembered.peek((_BY_WORDS, digest)) if found is None else found

    async def _result(
        self,
        state: ServiceState,
        request: TurnRequest,
        key: tuple[str, bytes],
        entry: RequestLogEntry,
        left_s: float,
    ) -> _Result:
        """Shortens one message.

        Args:
            key: the method, and the hash of the request.
        """
        body = await asyncio.to_thread(MessagesRequest.model_validate, request.body)
        answer = await _answer(ConversationCall(state, body, key[0], entry), left_s)
        found = _result_of(answer, request.place)
        if answer.status != "partial":
            cost = sum(map(len, found.texts.values())) + 256
            self._remembered.put(key, cost, found)
        return found


def _method_in_time(
    state: ServiceState,
    method: str,
    unread: Sequence[TurnRequest],
    limit_s: float,
    short: ShortChat,
) -> str:
    """The method, or BM25 where reading by it would take longer than `limit_s`, with a warning.

    As many tokens are read as the messages have, at the speed of the latest readings.
    """
    if not unread or not method_info(method).needs_proxy or _BY_WORDS not in state.methods.names:
        return method
    written = [json.dumps(one.body["messages"][one.place]["content"]) for one in unread]
    tokens = estimate_tokens("", written)
    seconds = tokens / state.engine.queue.rate.current
    if seconds <= limit_s:
        return method
    short.warnings.append(
        f"shortened by its words: {method} would read {tokens:,} tokens in some {seconds:,.1f} s, "
        f"and {limit_s:g} s is the most ({flag('upstream_read_s')})"
    )
    return _BY_WORDS


def _read_chat(body: bytes) -> tuple[str, JsonObject]:
    """The text of a body, and what it says.

    Raises:
        BadInput: it is no JSON in UTF-8.
    """
    try:
        text, chat = body.decode("utf-8"), loads(body)
    except ValueError as error:
        raise BadInput(f"the body is no JSON in UTF-8 ({error})") from error
    return text, chat


def _changed_body(text: str, new: Texts, tools: Collection[int] | None) -> bytes:
    if new:
        text = replace_strings(text, new)
    if tools is not None:
        text = keep_elements(text, "tools", tools)
    return text.encode("utf-8")


async def _chosen_tools(
    state: ServiceState,
    chat: JsonObject,
    turns: ChatTurns,
    most: int | None,
    until: float,
    short: ShortChat,
) -> set[int] | None:
    """The indexes of the tools that are sent; None for all.

    A provider's own tools, which describe nothing, and tools with a `cache_control` stay, beside
    those that were called or have to be.

    Args:
        until: when they have to be chosen, by `time.monotonic`.
        short: gets the names of those left out, and the warning where none could be chosen.
    """
    tools = chat.get("tools")
    if most is None or not isinstance(tools, list) or len(tools) <= most:
        return None
    ranked = {i: found for i, tool in enumerate(tools) if (found := _definition(tool)) is not None}
    definitions, places = list(ranked.values()), list(ranked)
    log = CallLog()
    for message in turns.messages:
        log.add_message(message)
    pinned = log.names | set(_names_in(chat.get("tool_choice")))

    def work(_: QueuedRequest) -> list[int]:
        return state.methods.tool_ranker().choose(turns.of_users, definitions, most, pinned)

    try:
        chosen = await state.executor.run(work, TimeLimits(until + 1, until))
    except TamisError as error:
        short.warnings.append(f"all tools are sent on: {error}")
        return None
    left_out, short.tools = set(range(len(definitions))) - set(chosen), len(tools)
    short.left_out += [definitions[i].name for i in sorted(left_out)]
    gone = {places[i] for i in left_out}
    return set(range(len(tools))) - gone if gone else None


def _definition(tool: Any) -> ToolDefinition | None:
    """A tool that can be left out; None for one that says nothing of itself, or is marked."""
    if not isinstance(tool, dict) or tool.get("cache_control"):
        return None
    try:
        [found] = read_tools([tool])
    except (BadInput, ValueError):
        return None
    return found if found.text.strip() else None


def _names_in(choice: Any) -> Iterator[str]:
    """The names of tools in a `tool_choice`, in any of its shapes."""
    if isinstance(choice, dict):
        if isinstance(name := choice.get("name"), str):
            yield name
        for value in choice.values():
            yield from _names_in(value)
    elif isinstance(choice, list):
        for value in choice:
            yield from _names_in(value)


def _request_hash(request: TurnRequest) -> bytes:
    """What a result depends on; where the provider is asked to cache is no part of it."""
    body = without_breakpoints(request.body)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


async def _answer(call: ConversationCall, left_s: float) -> MessagesAnswer:
    now = time.monotonic()
    return await call.state.executor.run_prepared(
        lambda: _prepare(call),
        call.tokens_needed,
        call.finish,
        limits=TimeLimits(now + left_s + 1, now + left_s),
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
