"""The body of a chat request with shorter results of tools; all other bytes as they came.

Each result is shortened by itself, for its call and the last turn of the user before it: whatever
comes later, it reads the same, so the prompt's beginning stays the same and stays in the provider's
cache. What was shortened once is remembered. Retrieved context between tags is shortened for the
user's turn that it is in; that in a system's message for the last turn, which changes.

Of many tools those are sent that fit the turns of the user (`ToolRanker.choose`), which changes as
little.

A result that a later step made needless (`compressors/tools/steps.py`) is replaced by a marker
where that costs less than it saves: what the provider's cache has is written anew from there on.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any, NamedTuple

from tamis.compressors.method import check_scores
from tamis.compressors.registry import method_info
from tamis.compressors.tools.steps import LEAST_TOKENS, Superseded
from tamis.compressors.tools.types import MOST_TOKENS
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.lru import LruCache
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.rank_tools import ToolDefinition, read_tools
from tamis.service.engine.errors import OutOfTime, Overloaded
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.conversation.billing import (
    LIST_PRICES,
    MESSAGE_TOKENS,
    Prices,
    cheapest_change,
    texts_in,
)
from tamis.service.http.conversation.candidates import is_prompt
from tamis.service.http.conversation.job import ConversationCall
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.conversation.texts import (
    CallLog,
    MessageText,
    message_texts,
    needless_results,
    registered_tools,
    retrieve_tool_of,
)
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.runtime.executor import TimeLimits, estimate_tokens
from tamis.service.http.runtime.originals import ENTRY_BYTES, text_hash
from tamis.service.http.runtime.settings import flag
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.json import loads
from tamis.service.http.schemas.messages import CCR, MessagesAnswer, MessagesRequest
from tamis.text.readers.outputs.json_parts import JsonNode, json_tree
from tamis.text.types import to_bytes
from tamis_agents.gateway.providers import Turn, read_turns, without_breakpoints


def replace_strings(text: str, new: Mapping[str, str]) -> str:
    """The JSON text with other strings at some places.

    Args:
        new: by JSON pointer (RFC 6901).

    Raises:
        ValueError: there is no string at one of the places.
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
        ValueError: the object has no such array.
    """
    members = [one for one in _json_tree(text).children if _name(one) == name]
    if not members or members[-1].kind != "[":
        raise ValueError(f"there is no array {name}")
    array = members[-1]
    stay = (one for i, one in enumerate(array.children) if i in kept)
    parts = ",".join(text[one.start : one.stop] for one in stay)
    return f"{text[: array.start]}[{parts}]{text[array.stop :]}"


def string_spans(text: str, wanted: Collection[str]) -> dict[str, tuple[int, int]]:
    """Where the strings of some pointers stand, with their quotation marks; half-open.

    Of members with the same name the last counts, as for JSON parsers.
    """
    found, ahead = dict[str, tuple[int, int]](), [("", _json_tree(text))]
    while ahead:
        path, node = ahead.pop()
        if node.kind == '"' and path in wanted:
            found[path] = node.start, node.stop
        for i, inner in reversed(list(enumerate(node.children))):
            step = _name(inner).replace("~", "~0").replace("/", "~1") if node.kind == "{" else i
            ahead.append((f"{path}/{step}", inner))
    return found


def _json_tree(text: str) -> JsonNode:
    if not text.strip():
        raise ValueError("there is no value")
    return json_tree(text, 0, len(text))


def _name(member: JsonNode) -> str:
    return str(json.loads(f'"{member.key}"'))


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
    """The messages of a chat, in any of the shapes of `providers`.

    Args:
        turns: of the body of a request.
        tags: between which texts of users and systems have retrieved context.

    Attributes:
        with_results: the indexes of messages with results of tools.
    """

    def __init__(self, turns: Sequence[Turn], tags: RetrievalTags) -> None:
        self.messages, self.tags = [turn.message for turn in turns], tags
        self._places = [turn.place for turn in turns]
        self._texts, self._cached = message_texts(self.messages)
        self._prompts = [(t, tags.parse(t.text)) for t in self._texts if is_prompt(t)]
        self.with_results = {text.message for text in self._texts if text.call is not None}
        # of users that ask, and are not results of tools that are sent as theirs
        self._with_words = {
            text.message
            for text, tagged in self._prompts
            if text.role == "user" and tagged.outside.strip()
        }
        self._asking = sorted(self._with_words)

    @property
    def prompts(self) -> list[str]:
        """The texts of users and systems."""
        return [text.text for text, _ in self._prompts]

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
        found = self.with_results | set(self._with_context(frozen, warnings))
        return sorted(found - frozen)

    @property
    def cached(self) -> list[int]:
        """The indexes of those like `changeable` that stand before the last `cache_control`."""
        with_context = {text.message for text, tagged in self._prompts if tagged.stretches}
        return sorted((self.with_results | with_context) & self._before_breakpoint)

    def replaced(self, forms: Mapping[int, Form]) -> Iterator[tuple[MessageText, ShownText]]:
        """The texts in place of which something else is sent, in their order."""
        for text in self._texts:
            if (shown := forms.get(text.message, {}).get(_path_of(text))) is not None:
                yield text, shown

    def needless(self) -> dict[tuple[int, str], tuple[MessageText, Superseded]]:
        """The results that a later step made needless, by message and path from it."""
        found = needless_results(self._texts, self.messages)
        return {(text.message, _path_of(text)): (text, why) for text, why in found}

    def is_all(self, index: int, paths: Collection[str]) -> bool:
        """Whether a message has no other texts than those at some paths from it."""
        return all(_path_of(t) in paths for t in self._texts if t.message == index)

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

    def request_body(self, index: int, ratio: float | None, tool: str | None) -> TurnRequest:
        """A conversation of the question, the calls and one message, which alone may be changed.

        Args:
            ratio: the share of tokens to keep; None: the service's default.
            tool: that gives back what was left out.
        """
        before, after = self._around(index)
        kept = [*before, self.messages[index], *after]
        config: JsonObject = {
            "compress_cached": True,
            "mode": CCR,
            "frozen_message_count": len(before),
            "protect_recent": len(after),
        }
        body: JsonObject = {"messages": kept, "config": config}
        if tool is not None:
            body["tools"] = [{"name": tool}]
        if index in self.with_results:
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
                place = self.pointer(text.message, _path_of(text))
                warnings.append(f"{place} stays whole: {tagged.fault}")
            elif tagged.stretches:
                yield text.message

    def _around(self, index: int) -> tuple[list[JsonObject], list[JsonObject]]:
        """The messages before and behind one that say what is asked."""
        at = bisect_left(self._asking, index)
        before = [self.messages[i] for i in self._asking[:at][-1:]]
        if index in self.with_results:
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


def _path_of(text: MessageText) -> str:
    return text.pointer.removeprefix(f"/messages/{text.message}")


def _is_answer(message: JsonObject) -> bool:
    return message.get("role") == "assistant"


_BY_WORDS = "lexical"
_FAILED = re.compile(r"\d+ (?:fatal|errors?|failed)\b")
"""What omissions with failures say that they have."""
REMEMBERED_CHARS = 1 << 25
Texts = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatOptions:
    """How far one request's results are shortened.

    Attributes:
        ratio: the share of tokens of each result that is kept; None: the service's default.
        method: scores; None: the service's default.
        compresses_cached: also what stands before the last `cache_control`.
        tools: how many tools are sent; None for all.
        prices: of the provider; None: `LIST_PRICES`, and no costs are counted.
        cache_s: for which the provider keeps the beginning of a prompt.
    """

    ratio: float | None
    method: str | None
    compresses_cached: bool
    tools: int | None = None
    prices: Prices | None = None
    cache_s: float = 300.0


class ShownText(NamedTuple):
    """What is shown in place of a text, and the tokens of both.

    Attributes:
        is_needless: a later step made the text needless, and a marker stands for it.
        is_by_words: its words decided what is shown.
        warnings: of what could not be shown, such as a failure that was cut.
    """

    text: str
    tokens_before: int
    tokens_after: int
    is_needless: bool = False
    is_by_words: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def saved(self) -> int:
        """The tokens that are left out."""
        return self.tokens_before - self.tokens_after


Form = Mapping[str, ShownText]
"""How a message is sent: its texts that are another, by JSON pointer from the message."""


def _saved(form: Form) -> int:
    return sum(shown.saved for shown in form.values())


@dataclass(slots=True)
class ShortChat:
    """A body, and the tokens of the texts in it that were shortened, before and after.

    Attributes:
        saved_again: tokens left out of texts that were sent short before in this conversation,
            which the provider's cache would bill.
        needless: how many results are left out because a later step made them needless.
        costs: of the messages as the client sent them, had all requests gone on so, and as they are
            sent; None without prices.
        warnings: of texts whose tags cannot be followed, and of tools that could not be chosen.
        tools: how many the client gave. left_out: the names of those that are not sent.
        note_sent: keeps how the messages were sent, for later requests; to be called once the
            upstream took them, and its cache may have them.
    """

    body: bytes
    tokens_before: int = 0
    tokens_after: int = 0
    saved_again: int = 0
    needless: int = 0
    costs: tuple[float, float] | None = None
    warnings: list[str] = field(default_factory=list)
    tools: int = 0
    left_out: list[str] = field(default_factory=list)
    note_sent: Callable[[], None] = lambda: None

    def add(self, form: Form, is_again: bool) -> None:
        """Counts the texts of a message as it is sent."""
        self.tokens_before += sum(shown.tokens_before for shown in form.values())
        self.tokens_after += sum(shown.tokens_after for shown in form.values())
        self.saved_again += is_again * _saved(form)
        self.needless += sum(shown.is_needless for shown in form.values())


@dataclass(frozen=True, slots=True)
class _Sent:
    """A message as it was sent last.

    Attributes:
        head: of the prompt before the messages. chain: a hash of it, and of the forms of all
            messages up to this one.
        at: when, by `time.monotonic`.
        tokens: of the message as the client sent it; None where they were not counted.
    """

    form: Form
    head: bytes
    chain: bytes
    at: float
    tokens: int | None


class _SentBefore:
    """What of a conversation was sent in earlier requests, and how.

    Args:
        memory: by the hash of a conversation up to a message, and by how results are shortened.
        begins: these hashes. head: of what stands before the messages in the prompt.
        options: of the request.

    Attributes:
        cached: so many of the first messages the provider's cache has, as they were sent.
        seen: so many it would have, had they been sent as they came.
    """

    def __init__(
        self, memory: LruCache[_Sent], begins: Sequence[bytes], head: bytes, options: ChatOptions
    ) -> None:
        self._memory, self._head = memory, head
        self._keys = [(begin, options.ratio, options.method) for begin in begins]
        self._before = [memory.peek(key) for key in self._keys]
        oldest = time.monotonic() - options.cache_s
        fresh = takewhile(lambda one: one and one.head == head and one.at >= oldest, self._before)
        sent = [one for one in fresh if one is not None]
        chains = islice(self._chains(one.form for one in sent), len(sent))
        self.seen = len(sent)
        same = (one.chain == chain for one, chain in zip(sent, chains, strict=True))
        self.cached = sum(takewhile(bool, same))

    def form(self, index: int) -> Form:
        """How a message was sent; empty where that was as it came, or never."""
        found = self._before[index]
        return found.form if found else {}

    def tokens(self, index: int) -> int | None:
        """The tokens of a message as it came, where they were counted."""
        found = self._before[index]
        return found.tokens if found else None

    def note(self, forms: Mapping[int, Form], tokens: Sequence[int | None]) -> None:
        """Keeps how the messages are sent now; the first ones are forgotten last."""
        every, now = [forms.get(i, {}) for i in range(len(self._keys))], time.monotonic()
        made = zip(self._keys, every, self._chains(every), tokens, strict=True)
        for key, form, chain, count in reversed(list(made)):
            cost = 256 + sum(len(shown.text) for shown in form.values())
            self._memory.put(key, cost, _Sent(form, self._head, chain, now, count))

    def _chains(self, forms: Iterable[Form]) -> Iterator[bytes]:
        chain = self._head
        for (begin, *_), form in zip(self._keys, forms, strict=False):
            written = json.dumps([(path, shown.text) for path, shown in sorted(form.items())])
            chain = hashlib.sha256(chain + begin + written.encode()).digest()
            yield chain


@dataclass(slots=True)
class ChatShortener:
    """Shortens bodies; safe for many requests of one event loop.

    Attributes:
        tags: between which texts of users and systems have retrieved context.
    """

    tags: RetrievalTags
    _remembered: LruCache[Form] = field(default_factory=lambda: LruCache(REMEMBERED_CHARS))
    _sent: LruCache[_Sent] = field(default_factory=lambda: LruCache(REMEMBERED_CHARS))

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
        until = time.monotonic() + state.settings.upstream_compress_s
        short = ShortChat(body)
        turns = await asyncio.to_thread(lambda: ChatTurns(read_turns(chat), self.tags))
        tools = await _chosen_tools(state, chat, turns, options.tools, until, short)
        indexes = await asyncio.to_thread(
            turns.changeable, options.compresses_cached, short.warnings
        )
        cached = [] if options.compresses_cached else turns.cached
        method = state.methods.resolve_method(None, options.method)
        check_scores(method_info(method), method)  # whether or not anything is to be read
        forms = dict[int, Form]()
        if options.prices is not None or {*cached, *indexes}:
            begins = await asyncio.to_thread(turns.beginnings)
            head = await asyncio.to_thread(_head_hash, chat, tools)
            before = _SentBefore(self._sent, begins, head, options)
            # the provider's cache has it as it was sent: short, where it was short then
            forms = {index: before.form(index) for index in cached}
            work = _ChatWork(state, entry, turns, before, options, until, short)
            forms |= await self._new_forms(work, indexes, method, _retrieve_tool(chat))
            tokens = await asyncio.to_thread(_choose_forms, work, forms)
            for index, form in forms.items():
                short.add(form, before.form(index) == form)
            shown = [one for form in forms.values() for one in form.values()]
            for index, form in forms.items():
                for at, one in form.items():
                    place = turns.pointer(index, at)
                    short.warnings += [f"{place}: {warning}" for warning in one.warnings]
            if method != _BY_WORDS and (count := sum(one.is_by_words for one in shown)):
                of_all = f"{count} of {len(shown)} texts"
                short.warnings.append(f"{of_all} are shortened by their words, not by {method}")
            short.note_sent = lambda: before.note(forms, tokens)
            await asyncio.to_thread(_keep_originals, work, forms)
        new = {turns.pointer(i, at): one.text for i, f in forms.items() for at, one in f.items()}
        if new or tools is not None:
            short.body = await asyncio.to_thread(_changed_body, text, new, tools)
        return short

    async def _new_forms(
        self, work: _ChatWork, indexes: Sequence[int], method: str, tool: str | None
    ) -> dict[int, Form]:
        """The shortest form of each message, whatever was sent before.

        Args:
            indexes: of the messages that may be changed.
            method: that scores.
            tool: that gives back what was left out.
        """
        state, turns, before, options = work.state, work.turns, work.before, work.options
        forms, unread = dict[int, Form](), dict[int, TurnRequest]()
        needless = await asyncio.to_thread(_needless_forms, work, indexes, tool)
        for index in indexes:
            # what was sent short stays so; what is shortened for the last turn is so anew
            known = before.form(index) if index in turns.with_results else {}
            own = needless.get(index, {})
            forms[index] = {**known, **own}
            if not known and not (own and turns.is_all(index, own)):
                unread[index] = turns.request_body(index, options.ratio, tool)
        digests = {i: await asyncio.to_thread(_request_hash, one) for i, one in unread.items()}
        found = {index: self._recall(method, digests[index]) for index in unread}
        late = [unread[index] for index, form in found.items() if form is None]
        method = _method_in_time(state, method, late, work.short)
        until = work.until
        for index, request in unread.items():
            form, left_s = found[index], until - time.monotonic()
            if form is None and left_s > 0:
                key = (method, digests[index])
                try:
                    form = await self._result(work, request, key, left_s)
                except (Overloaded, OutOfTime) as error:
                    until = 0.0
                    stays = f"results from message {index} on stay whole: {error}"
                    work.short.warnings.append(stays)
            forms[index] = {**(form or {}), **forms[index]}
        return forms

    def _recall(self, method: str, digest: bytes) -> Form | None:
        """What was made of a message before, by the method or by its words."""
        found = self._remembered.peek((method, digest))
        return self._remembered.peek((_BY_WORDS, digest)) if found is None else found

    async def _result(
        self, work: _ChatWork, request: TurnRequest, key: tuple[str, bytes], left_s: float
    ) -> Form:
        """Shortens one message.

        Args:
            key: the method, and the hash of the request.
        """
        body = await asyncio.to_thread(MessagesRequest.model_validate, request.body)
        most = MOST_TOKENS if work.options.ratio is None else math.inf
        call = ConversationCall(work.state, body, key[0], work.entry, most)
        until = time.monotonic() + left_s
        answer = await work.state.executor.run_prepared(
            lambda: call.prepare(call.read()),
            call.tokens_needed,
            call.finish,
            limits=TimeLimits(until + 1, until),
        )
        found = _form_of(answer, request.place, key[0] == _BY_WORDS)
        if answer.status != "partial":
            cost = sum(len(shown.text) for shown in found.values()) + 256
            self._remembered.put(key, cost, found)
        return found


@dataclass(frozen=True, slots=True)
class _ChatWork:
    """One request on its way: until when it has time, and what becomes of it."""

    state: ServiceState
    entry: RequestLogEntry
    turns: ChatTurns
    before: _SentBefore
    options: ChatOptions
    until: float
    short: ShortChat

    @property
    def counter(self) -> TextTokenizer:
        """Counts as the shortening of messages does."""
        return self.state.methods.counter(MessagesRequest.model_fields["tokenizer"].default)


def _needless_forms(work: _ChatWork, indexes: Collection[int], tool: str | None) -> dict[int, Form]:
    """Markers for results that a later step made needless; one that was sent stays to the byte."""
    if not work.state.settings.upstream_steps:
        return {}
    wanted, counter, found = set(indexes), work.counter, dict[int, dict[str, ShownText]]()
    for (index, path), (text, why) in work.turns.needless().items():
        if index not in wanted:
            continue
        sent = work.before.form(index).get(path)
        if sent is None or not sent.is_needless:
            tokens = sent.tokens_before if sent else counter.count(text.text)
            if tokens < LEAST_TOKENS:
                continue
            shown = why.shown(tokens, _handle(work.state, text.text, tool))
            after = counter.count(shown)
            if after >= (sent.tokens_after if sent else tokens):
                continue
            sent = ShownText(shown, tokens, after, True)
        found.setdefault(index, {})[path] = sent
    return dict(found)


def _handle(state: ServiceState, text: str, tool: str | None) -> str:
    """How a text can be had again; empty where it is not kept."""
    if not state.originals.max_bytes or state.originals.room_for(text) is None:
        return ""
    return f"{tool} hash={text_hash(text)}" if tool else f"hash={text_hash(text)}"


def _retrieve_tool(chat: JsonObject) -> str | None:
    tools = chat.get("tools")
    return retrieve_tool_of(registered_tools(tools if isinstance(tools, list) else None), None)


def _keep_originals(work: _ChatWork, forms: Mapping[int, Form]) -> None:
    """Keeps what markers name, as long as they are sent; the oldest give way.

    Where not all have room there is a warning.
    """
    store, needed = work.state.originals, 0
    if not store.max_bytes:
        return
    for text, shown in work.turns.replaced(forms):
        tool = text.call.name if text.call else None
        store.put(work.entry.key, text.text, tool, shown.tokens_before, shown.text)
        needed += len(to_bytes(text.text)) + ENTRY_BYTES
    if needed > store.max_bytes:
        work.short.warnings.append(
            f"the originals of this chat take {needed:,} bytes and {flag('retrieve_bytes')} has "
            f"{store.max_bytes:,}: the oldest and what is larger cannot be retrieved"
        )


def _choose_forms(work: _ChatWork, forms: dict[int, Form]) -> list[int | None]:
    """Keeps the forms in which messages were sent where new ones would cost more than they save.

    Args:
        forms: the shortest; some are exchanged for those that were sent.

    Returns:
        The tokens of each message as the client sent it, where they were counted.
    """
    before, turns, options = work.before, work.turns, work.options
    count, cached = len(turns.messages), before.cached
    changed = [i for i in range(cached) if forms.get(i, {}) != before.form(i)]
    # what is shortened for the last turn of the user is another for another, whatever that costs
    cached = min([cached, *(i for i in changed if i in forms and i not in turns.with_results)])
    whole = [before.tokens(i) for i in range(count)]
    if not options.prices and not any(i < cached for i in changed):
        return whole
    missing = [i for i, tokens in enumerate(whole) if tokens is None]
    texts = ["\n".join(texts_in(turns.messages[i])) for i in missing]
    for i, found in zip(missing, work.counter.count_many(texts), strict=True):
        whole[i] = found + MESSAGE_TOKENS
    tokens = [found or 0 for found in whole]
    sent = [found - _saved(before.form(i)) for i, found in enumerate(tokens)]
    new = [found - _saved(forms.get(i, {})) for i, found in enumerate(tokens)]
    prices = options.prices or LIST_PRICES
    more = work.state.settings.upstream_more_requests
    start = cheapest_change(sent, new, cached, prices, more)
    for i in changed:
        if i < start:
            forms[i] = before.form(i)
    if options.prices:
        unchanged = prices.bill(sum(tokens[: before.seen]), sum(tokens[before.seen :]))
        work.short.costs = unchanged, prices.bill(sum(sent[:start]), sum(new[start:]))
    return list(tokens)


def _head_hash(chat: JsonObject, tools: Collection[int] | None) -> bytes:
    """Hashes what a provider puts before the messages: another model has another cache."""
    kept = sorted(tools) if tools is not None else None
    written = json.dumps([chat.get("model"), chat.get("tools"), kept], sort_keys=True)
    return hashlib.sha256(written.encode()).digest()


def _method_in_time(
    state: ServiceState, method: str, unread: Sequence[TurnRequest], short: ShortChat
) -> str:
    """The method, or BM25 where reading by it would take too long, with a warning.

    As many tokens are read as the messages have, at the speed of the latest readings.
    """
    if not unread or not method_info(method).needs_proxy or _BY_WORDS not in state.methods.names:
        return method
    written = [json.dumps(one.body["messages"][one.place]["content"]) for one in unread]
    tokens = estimate_tokens("", written)
    seconds, limit_s = tokens / state.engine.queue.rate.current, state.settings.upstream_read_s
    if seconds <= limit_s:
        return method
    short.warnings.append(
        f"{method} would read {tokens:,} tokens in some {seconds:,.1f} s, and {limit_s:g} s is the "
        f"most ({flag('upstream_read_s')})"
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
        choice = list(choice.values())
    for value in choice if isinstance(choice, list) else ():
        yield from _names_in(value)


def _request_hash(request: TurnRequest) -> bytes:
    """What a result depends on; where the provider is asked to cache is no part of it."""
    body = without_breakpoints(request.body)
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()


def _form_of(answer: MessagesAnswer, index: int, is_by_words: bool) -> Form:
    form = dict[str, ShownText]()
    for one in answer.compressions:
        value: Any = answer.messages[index]
        path = one.path.removeprefix(f"/messages/{index}")
        for step in path.split("/")[1:]:
            value = value[int(step) if isinstance(value, list) else step]
        said = f"{one.path}: "
        warnings = [w.removeprefix(said) for w in answer.warnings if w.startswith(said)]
        omissions = one.omissions or []
        if cut := sum(omission.unit == "characters" for omission in omissions):
            warnings.append(f"failures are cut in {cut} of their lines")
        if gone := [o.content for o in omissions if o.content and _FAILED.match(o.content)]:
            warnings.append(f"left out: {', '.join(gone)}")
        counts = one.tokens_before, one.tokens_after
        form[path] = ShownText(value, *counts, False, is_by_words, tuple(warnings))
    return form
