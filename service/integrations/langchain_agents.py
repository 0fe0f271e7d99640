"""tamis in LangChain's agents: what tools return is shortened before the model reads it.

    agent = create_agent(model, tools, middleware=[TamisToolMiddleware(ratio=0.3)])
    ContextEditingMiddleware(edits=[TamisToolEdit(trigger=20_000), ClearToolUsesEdit()])

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

from tamis.compressors.options import options_of
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import MissingExtra
from tamis.service.agents.hook import replace_texts, result_texts
from tamis.service.agents.shortening import Shortening
from tamis.service.api.option_fields import option_fields
from tamis.service.integrations.backend import run_in_thread
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
except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[agents]"') from error

__all__ = ["TamisToolEdit", "TamisToolMiddleware"]
logger = logging.getLogger("tamis")
_MARK = "tamis"


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
