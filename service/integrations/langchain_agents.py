"""tamis in LangChain's agents: what tools return is shortened before the model reads it.

    agent = create_agent(model, tools, middleware=[TamisToolMiddleware(ratio=0.3)])
    ContextEditingMiddleware(edits=[TamisToolEdit(trigger=20_000), ClearToolUsesEdit()])
    agent = create_agent(model, many_tools, middleware=[TamisToolChoice(top_n=12)])

A result is shortened by itself, for the call that made it and the last turn of the user before it:
what comes later in a conversation does not change it, so the prompt's beginning stays the same and
stays in the provider's cache. Only one that a later step made needless (`tools/steps.py`) gives way
to a marker, and only where that saves more than the changed beginning costs.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, Field, PrivateAttr, SecretStr, create_model, model_validator

from tamis.compressors.options import options_of
from tamis.compressors.tools.steps import KEEP_LAST, LEAST_TOKENS, superseded_steps
from tamis.compressors.tools.types import RETRIEVE, ToolOutput
from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.lru import LruCache
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.result_texts import replace_texts, result_texts
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore
from tamis.service.api.option_fields import option_fields
from tamis.service.api.rank_tools import TOP_N, choose_tools, rank_tools, read_tools
from tamis.service.http.conversation.billing import LIST_PRICES, MESSAGE_TOKENS, cheapest_change
from tamis.service.integrations.backend import log_errors, run_in_thread
from tamis.service.integrations.client import Client
from tamis.service.integrations.fields import CONFIG, OnError
from tamis.text.inputs import is_whole
from tamis.text.types import content_id, to_bytes

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain_core.messages import (
        AIMessage,
        AnyMessage,
        BaseMessage,
        HumanMessage,
        ToolMessage,
    )
    from langchain_core.utils.function_calling import convert_to_openai_tool
except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[agents]"') from error

__all__ = ["TamisToolChoice", "TamisToolEdit", "TamisToolMiddleware"]
_MARK = "tamis"
_RANKINGS = 64
"""A middleware keeps the rankings of so many turns and tools."""
_DECISIONS = 1024
"""An edit keeps the decisions on so many requests."""
_PRICES = replace(LIST_PRICES, least=0)
"""System prompt and tools, which stand before the messages, may be long enough to be cached."""

_SHORTENING = [one for one in options_of(Shortening) if one.name not in ("url", "api_key")]
if TYPE_CHECKING:

    class OptionFields(BaseModel):
        """A field for each option of `Shortening`; those of its server have names of their own."""
else:
    OptionFields = create_model("OptionFields", __config__=CONFIG, **option_fields(_SHORTENING))


class ToolShortening(OptionFields):
    """How far results are shortened, which are left alone, and what happens on an error."""

    model_config = CONFIG

    exclude_tools: Sequence[str] = Field((), description="names or patterns of tools, as mcp__*")
    steps: bool = Field(
        True, description="leave out results that a later step made needless, where that pays"
    )
    base_url: str | None = Field(None, description="of a tamis server; None is this process")
    api_key: SecretStr | None = Field(None, description="of the server")
    on_error: OnError = Field("passthrough", description="passthrough logs it; fail raises")

    @model_validator(mode="after")
    def _check_shortening(self) -> Any:
        self.shortening.check_method()
        return self

    @property
    def shortening(self) -> Shortening:
        """The fields as pipes and hooks have them."""
        key = self.api_key.get_secret_value() if self.api_key else None
        given = {one.name: getattr(self, one.name) for one in _SHORTENING}
        return Shortening(**given, url=self.base_url, api_key=key)

    def shorten(self, message: ToolMessage, call: Any, question: str | None) -> ToolMessage:
        """The message with shorter texts, or itself where nothing is to be shortened.

        Args:
            call: the tool call that it answers, with `name` and `args`; None where it is not known.
        """
        name = message.name or (call or {}).get("name")
        if _MARK in message.response_metadata or self._is_excluded(name):
            return message
        holder = {"content": deepcopy(message.content)}
        texts = result_texts(holder)
        arguments = json.dumps((call or {}).get("args"), ensure_ascii=False, default=str)
        outputs = [ToolOutput(text.text, name, arguments if call else None) for text in texts]
        shortened = [text.text for text in texts]
        with log_errors(self.on_error, "the result of %s is passed on as it is: %s", name):
            shortened = self.shortening.apply(outputs, question)
        if not replace_texts(texts, shortened):
            return message
        metadata = message.response_metadata | {_MARK: {"shortened": True}}
        return message.model_copy(update={**holder, "response_metadata": metadata})

    def replace_needless(
        self, messages: Sequence[AnyMessage], sent: Sequence[AnyMessage], cached: int, known: _Gone
    ) -> dict[int, ToolMessage]:
        """The results that give way to a marker, by their indexes: those where that pays.

        Those behind the model's last answer stay, and of several that answer one call all.

        Args:
            messages: of the conversation. sent: the same ones as they are sent otherwise.
            cached: so many of the first ones the provider's cache has.
            known: what gave way before, and does so to the byte.
        """
        how = self.shortening
        if not self.steps or how.lossless:
            return {}
        new = {**self._needless(messages, sent), **known}
        if not new.keys() - known.keys():
            return new
        before = _tokens([known.get(i, one) for i, one in enumerate(sent)])
        after = _tokens([new.get(i, one) for i, one in enumerate(sent)])
        start = cheapest_change(before, after, cached, _PRICES, 0)
        return {
            i: one
            for i, one in new.items()
            if i in known or (i >= start and (how.no_store or _keep(messages[i])))
        }

    def _needless(
        self, messages: Sequence[AnyMessage], sent: Sequence[AnyMessage]
    ) -> dict[int, ToolMessage]:
        steps = _steps(messages)
        places, outputs = list(steps), list(steps.values())
        last = sum(place >= _count_answered(messages) for place in places)
        needless = superseded_steps(outputs, max(KEEP_LAST, last))
        how, counter, found = self.shortening, estimating_tokenizer(), dict[int, ToolMessage]()
        for index, why in needless.items():
            place, output = places[index], outputs[index]
            shown = sent[place]
            if self._is_excluded(output.name) or not isinstance(shown, ToolMessage):
                continue
            is_whole = _MARK not in messages[place].response_metadata
            tokens = counter.count(output.text)
            if tokens < max(LEAST_TOKENS, how.min_tokens * is_whole):
                continue
            handle = "" if how.no_store else f"{RETRIEVE} {content_id(to_bytes(output.text))}"
            text = why.shown(tokens, handle)
            if counter.count(text) < counter.count(_text(shown) or ""):
                found[place] = _with_text(messages[place], text)
        return found

    def _is_excluded(self, name: str | None) -> bool:
        return any(fnmatchcase(name or "", pattern) for pattern in self.exclude_tools)


_Gone = Mapping[int, ToolMessage]
"""Results that gave way to markers, by the indexes of their messages."""


class _Decision(NamedTuple):
    """How a request was sent: whether its results were short, and which gave way."""

    is_short: bool
    gone: _Gone


class TamisToolEdit(ToolShortening):
    """An edit for LangChain's `ContextEditingMiddleware`: the state keeps the whole results.

    What a request reads depends on its messages alone: what the ones before it read is decided
    again where it is not remembered.
    """

    trigger: int = Field(0, ge=0, description="tokens of the conversation from which on it acts")
    protect_recent: int = Field(0, ge=0, description="so many of the last results stay whole")
    _decided: LruCache[_Decision] = PrivateAttr(default_factory=lambda: LruCache(_DECISIONS, 1))

    def apply(
        self, messages: list[AnyMessage], *, count_tokens: Callable[[Sequence[BaseMessage]], int]
    ) -> None:
        """Shortens the results of tools in the list, in place.

        Args:
            count_tokens: of messages, for `trigger`.
        """
        keys, whole = _hashes(messages), list(messages)
        if not messages:
            return
        if count_tokens(messages) < self.trigger:
            self._decided.put(keys[-1], 1, _Decision(False, {}))
            return
        results = [(i, one) for i, one in enumerate(messages) if isinstance(one, ToolMessage)]
        for i, message in results[: len(results) - self.protect_recent]:
            before = messages[:i]
            call = _find_call(before, message.tool_call_id)
            messages[i] = self.shorten(message, call, _last_question(before))
        with log_errors(self.on_error, "needless results are passed on: %s"):
            gone = self._decide(whole, list(messages), keys, count_tokens).gone
            for i, marker in gone.items():
                messages[i] = marker

    def _decide(
        self,
        whole: Sequence[AnyMessage],
        short: Sequence[AnyMessage],
        keys: Sequence[bytes],
        count_tokens: Callable[[Sequence[BaseMessage]], int],
    ) -> _Decision:
        """How the last request is sent, request by request from the last one that is known.

        Args:
            short: the messages with shorter results. keys: a hash of the messages up to each.
        """
        ends = [i for i, one in enumerate(whole) if isinstance(one, AIMessage) and i]
        ends.append(len(whole))
        known = [self._decided.peek(keys[end - 1]) for end in ends[:-1]]
        first = max((i for i, one in enumerate(known) if one is not None), default=-1)
        last = (known[first] if first >= 0 else None) or _Decision(False, {})
        before = self._base(whole, short, ends[first] if first >= 0 else 0, last.is_short)
        for end in ends[first + 1 :]:
            is_last = end == len(whole)
            is_short = is_last or last.is_short or count_tokens(whole[:end]) >= self.trigger
            base = self._base(whole, short, end, is_short)
            same = takewhile(lambda pair: pair[0] is pair[1], zip(before, base, strict=False))
            gone: _Gone = {}
            if is_short:
                cached = sum(1 for _ in same)
                gone = self.replace_needless(whole[:end], base, cached, last.gone)
            last, before = _Decision(is_short, gone), base
            self._decided.put(keys[end - 1], 1, last)
        return last

    def _base(
        self, whole: Sequence[AnyMessage], short: Sequence[AnyMessage], end: int, is_short: bool
    ) -> list[AnyMessage]:
        """The messages of a request with their results short, but for the last of them."""
        results = [i for i in range(end) if isinstance(whole[i], ToolMessage)]
        recent = set(results[len(results) - self.protect_recent :] if is_short else results)
        return [whole[i] if i in recent else short[i] for i in range(end)]


class TamisToolMiddleware(AgentMiddleware):  # type: ignore[misc]
    """Shortens the result of a tool when it returns; the state has the shorter one from then on.

    So it has the marker of a result that a later step made needless.

    Args:
        keep_original: put the whole result into the message's `artifact`, which no model reads,
            unless the tool has put something there.
        fields: of `ToolShortening`.
    """

    def __init__(self, *, keep_original: bool = False, **fields: Any) -> None:
        super().__init__()
        self.keep_original = keep_original
        self.options = ToolShortening(**fields)

    def wrap_tool_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """The tool's result, shortened; a command is passed on."""
        return self._shorten(request, handler(request))

    async def awrap_tool_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """`wrap_tool_call` without blocking the event loop."""
        result = await handler(request)
        return await run_in_thread(partial(self._shorten, request, result))

    def before_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """The results that give way to a marker from now on; None where there are none."""
        messages = _messages(state)
        cached = _count_answered(messages)
        gone: _Gone = {}
        with log_errors(self.options.on_error, "needless results are passed on: %s"):
            gone = self.options.replace_needless(messages, messages, cached, {})
        # the state exchanges a message by its id
        new = [self._keeping(messages[i], one) for i, one in gone.items() if messages[i].id]
        return {"messages": new} if new else None

    async def abefore_model(self, state: Any, runtime: Any) -> dict[str, Any] | None:
        """`before_model` without blocking the event loop."""
        return await run_in_thread(partial(self.before_model, state, runtime))

    def _shorten(self, request: Any, result: Any) -> Any:
        if not isinstance(result, ToolMessage):
            return result
        messages = _messages(request.state)
        short = self.options.shorten(result, request.tool_call, _last_question(messages))
        return short if short is result else self._keeping(result, short)

    def _keeping(self, whole: Any, short: ToolMessage) -> ToolMessage:
        """The shorter message, with the content of the whole one where that is to be kept."""
        if not self.keep_original or whole.artifact is not None:
            return short
        return short.model_copy(update={"artifact": whole.content})


class TamisToolChoice(AgentMiddleware):  # type: ignore[misc]
    """Sends the model the tools that fit what the user asks, and those that were called.

    The choice depends on the turns of the user so far alone and loses no tool, so the prompt stays
    in the provider's cache (`choose_tools`). A provider's own tools stay, and on an error all do.

    Args:
        top_n: how many tools.
        always_include: names of tools that stay in any case.
        base_url: of a tamis server; None is this process. api_key: of the server.
        timeout_s: seconds to wait for the server.
        on_error: `passthrough` sends all tools and logs the error; `fail` raises it.

    Raises:
        BadInput: `top_n` is no whole number from 1 on.
    """

    def __init__(
        self,
        *,
        top_n: int = TOP_N,
        always_include: Sequence[str] = (),
        base_url: str | None = None,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        on_error: OnError = "passthrough",
    ) -> None:
        super().__init__()
        if not (is_whole(top_n) and top_n >= 1):
            raise BadInput(f"top_n is {top_n!r:.80}; give a whole number from 1 on")
        self.top_n, self.always_include, self.on_error = top_n, set(always_include), on_error
        self._client = None if base_url is None else Client(base_url, api_key, timeout_s=timeout_s)
        self._ranked = LruCache[list[tuple[int, float]]](_RANKINGS, 1)

    def wrap_model_call(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """The model's answer to the request with fewer tools."""
        return handler(self._with_fewer(request))

    async def awrap_model_call(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """`wrap_model_call` without blocking the event loop."""
        return await handler(await run_in_thread(partial(self._with_fewer, request)))

    def _with_fewer(self, request: Any) -> Any:
        left_out = set[int]()
        with log_errors(self.on_error, "all tools are sent: %s"):
            left_out = self._left_out(request)
        if not left_out:
            return request
        kept = [tool for i, tool in enumerate(request.tools) if i not in left_out]
        return request.override(tools=kept)

    def _left_out(self, request: Any) -> set[int]:
        """The indexes of the tools that are not sent."""
        shown = {
            i: tool if isinstance(tool, dict) else convert_to_openai_tool(tool)
            for i, tool in enumerate(request.tools)
        }
        # a provider's own tools are named by their type, and stay
        places = [i for i, tool in shown.items() if "name" in tool or "function" in tool]
        tools = [shown[i] for i in places]
        if len(tools) <= self.top_n:
            return set()
        names = [one.name for one in read_tools(tools)]
        turns = [str(m.text) for m in request.messages if isinstance(m, HumanMessage)]
        calls = [m.tool_calls for m in request.messages if isinstance(m, AIMessage)]
        pinned = self.always_include | {call["name"] for part in calls for call in part}
        if isinstance(request.tool_choice, str):
            pinned.add(request.tool_choice)
        elif isinstance(request.tool_choice, dict):
            choice = request.tool_choice
            pinned.add(str(choice.get("name", choice.get("function", {}).get("name"))))
        rank = partial(self._rank, tools)
        chosen = set(choose_tools(rank, turns, names, self.top_n, pinned))
        return {place for i, place in enumerate(places) if i not in chosen}

    def _rank(self, tools: list[dict[str, Any]], question: str) -> list[tuple[int, float]]:
        def make() -> list[tuple[int, float]]:
            found: Any
            if self._client is None:
                found = rank_tools(question, tools, top_n=None).results
            else:
                found = self._client.rank_tools(question, tools, top_n=None).data
            return [(one.index, one.score) for one in found]

        key = question, json.dumps(tools, sort_keys=True, default=str)
        return self._ranked.get(key, make, lambda _: 1)


def _messages(state: Any) -> Sequence[AnyMessage]:
    found: Sequence[AnyMessage]
    found = state.get("messages", ()) if isinstance(state, dict) else state.messages
    return found


def _count_answered(messages: Sequence[AnyMessage]) -> int:
    """How many messages the last request had: those before the model's last answer."""
    return max((i for i, one in enumerate(messages) if isinstance(one, AIMessage)), default=0)


def _steps(messages: Sequence[AnyMessage]) -> dict[int, ToolOutput]:
    """Each result with its call, by the index of its message; others than single texts stay."""
    calls, found = dict[str | None, Any](), list[tuple[int, ToolMessage, Any]]()
    for i, message in enumerate(messages):
        if isinstance(message, AIMessage):
            calls |= {call["id"]: call for call in message.tool_calls}
        elif isinstance(message, ToolMessage):
            found.append((i, message, calls.get(message.tool_call_id)))
    answers, steps = Counter(id(call) for *_, call in found), dict[int, ToolOutput]()
    for i, message, call in found:
        text, failed = _text(message), True if message.status == "error" else None
        if text is None or call is None or answers[id(call)] > 1:
            steps[i] = ToolOutput(text or "", is_error=failed)
            continue
        arguments = json.dumps(call["args"], ensure_ascii=False, default=str)
        steps[i] = ToolOutput(text, call["name"], arguments, failed)
    return steps


def _text(message: ToolMessage) -> str | None:
    """The text of a result that is one text; None for another."""
    content: Any = message.content
    if isinstance(content, list) and len(content) == 1:
        content = content[0]
    if isinstance(content, dict) and content.get("type") == "text":
        content = content.get("text")
    return content if isinstance(content, str) else None


def _keep(message: Any) -> bool:
    """Keeps the text of a result by its id; whether it can be had again."""
    return OutputStore().put(to_bytes(_text(message) or "")) is not None


def _with_text(message: Any, text: str) -> ToolMessage:
    """A result of one text with another."""
    content: Any = text
    if isinstance(message.content, list):
        (block,) = message.content
        content = [{**block, "text": text} if isinstance(block, dict) else text]
    metadata = message.response_metadata | {_MARK: {"shortened": True}}
    copy: ToolMessage = message.model_copy(
        update={"content": content, "response_metadata": metadata}
    )
    return copy


def _tokens(messages: Sequence[AnyMessage]) -> list[int]:
    """About how many tokens each message has: its text and its calls."""
    calls = (m.tool_calls if isinstance(m, AIMessage) else () for m in messages)
    texts = [
        "\n".join([str(m.text), *(json.dumps(call["args"], default=str) for call in made)])
        for m, made in zip(messages, calls, strict=True)
    ]
    return [count + MESSAGE_TOKENS for count in estimating_tokenizer().count_many(texts)]


def _hashes(messages: Sequence[AnyMessage]) -> list[bytes]:
    """A hash of the conversation up to each message."""
    running, found = hashlib.sha256(), list[bytes]()
    for message in messages:
        calls = message.tool_calls if isinstance(message, AIMessage) else None
        about = [message.type, message.content, calls, getattr(message, "tool_call_id", None)]
        running.update(json.dumps(about, default=str).encode())
        found.append(running.digest())
    return found


def _find_call(messages: Sequence[AnyMessage], call_id: str) -> Any:
    """The tool call with an id; None where no message has it."""
    answers = (message for message in reversed(messages) if isinstance(message, AIMessage))
    calls = (call for answer in answers for call in answer.tool_calls)
    return next((call for call in calls if call["id"] == call_id), None)


def _last_question(messages: Sequence[AnyMessage]) -> str | None:
    """The text of the user's last message."""
    turns = (str(m.text) for m in reversed(messages) if isinstance(m, HumanMessage))
    return next((turn for turn in turns if turn.strip()), None)
