"""tamis in LangChain's agents: what tools return is shortened before the model reads it.

    agent = create_agent(model, tools, middleware=[TamisToolMiddleware(ratio=0.3)])
    ContextEditingMiddleware(edits=[TamisToolEdit(trigger=20_000), ClearToolUsesEdit()])
    agent = create_agent(model, many_tools, middleware=[TamisToolChoice(top_n=12)])

A result is shortened by itself, for the call that made it and the last turn of the user before it:
what comes later in a conversation does not change it, so the prompt's beginning stays the same and
stays in the provider's cache.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from copy import deepcopy
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, SecretStr, create_model, model_validator

from tamis.compressors.inputs import is_whole
from tamis.compressors.options import options_of
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.lru import LruCache
from tamis.service.agents.hook import replace_texts, result_texts
from tamis.service.agents.shortening import Shortening
from tamis.service.api.option_fields import option_fields
from tamis.service.api.rank_tools import TOP_N, choose_tools, rank_tools, read_tools
from tamis.service.integrations.backend import run_in_thread
from tamis.service.integrations.client import Client
from tamis.service.integrations.fields import CONFIG, OnError

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
logger = logging.getLogger("tamis")
_MARK = "tamis"
_RANKINGS = 64
"""Of turns and tools, that a middleware keeps."""


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
    base_url: str | None = Field(None, description="of a tamis server; None is this process")
    api_key: SecretStr | None = Field(None, description="of the server")
    on_error: OnError = Field("passthrough", description="passthrough logs it; fail raises")

    @model_validator(mode="after")
    def _check_shortening(self) -> Any:
        _ = self.shortening
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
        try:
            shortened = self.shortening.apply(outputs, question)
        except Exception as error:
            if self.on_error == "fail":
                raise
            logger.warning("the result of %s is passed on as it is: %s", name, error)
            return message
        if not replace_texts(texts, shortened):
            return message
        metadata = message.response_metadata | {_MARK: {"shortened": True}}
        return message.model_copy(update={**holder, "response_metadata": metadata})

    def _is_excluded(self, name: str | None) -> bool:
        return any(fnmatchcase(name or "", pattern) for pattern in self.exclude_tools)


class TamisToolEdit(ToolShortening):
    """An edit for LangChain's `ContextEditingMiddleware`: the state keeps the whole results."""

    trigger: int = Field(0, ge=0, description="tokens of the conversation from which on it acts")
    protect_recent: int = Field(0, ge=0, description="so many of the last results stay whole")

    def apply(
        self, messages: list[AnyMessage], *, count_tokens: Callable[[Sequence[BaseMessage]], int]
    ) -> None:
        """Shortens the results of tools in the list, in place.

        Args:
            count_tokens: of messages, for `trigger`.
        """
        if count_tokens(messages) < self.trigger:
            return
        results = [(i, one) for i, one in enumerate(messages) if isinstance(one, ToolMessage)]
        for i, message in results[: len(results) - self.protect_recent]:
            before = messages[:i]
            call = _find_call(before, message.tool_call_id)
            messages[i] = self.shorten(message, call, _last_question(before))


class TamisToolMiddleware(AgentMiddleware):  # type: ignore[misc]
    """Shortens the result of a tool when it returns; the state has the shorter one from then on.

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

    def _shorten(self, request: Any, result: Any) -> Any:
        if not isinstance(result, ToolMessage):
            return result
        state = request.state
        messages = state.get("messages", ()) if isinstance(state, dict) else state.messages
        short = self.options.shorten(result, request.tool_call, _last_question(messages))
        if short is result or not self.keep_original or result.artifact is not None:
            return short
        return short.model_copy(update={"artifact": result.content})


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
        try:
            left_out = self._left_out(request)
        except Exception as error:
            if self.on_error == "fail":
                raise
            logger.warning("all tools are sent: %s", error)
            return request
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


def _find_call(messages: Sequence[AnyMessage], call_id: str) -> Any:
    """The tool call with an id; None where no message has it."""
    for message in reversed(messages):
        for call in message.tool_calls if isinstance(message, AIMessage) else ():
            if call["id"] == call_id:
                return call
    return None


def _last_question(messages: Sequence[AnyMessage]) -> str | None:
    """The text of the user's last message."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage) and (text := str(message.text)).strip():
            return text
    return None
