"""Headroom's dialect: `POST /v1/compress` with `messages`, and the answer of `/v1/retrieve/{hash}`.

The request has the options of our own, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Annotated, Any

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, PrivateAttr, model_validator

from tamis.compressors.tools.steps import Reason
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import (
    MOST_MS,
    NOT_LOGGED,
    NOTHING_RANDOM,
    OLD_NAMES,
    Language,
    LenientRequest,
    OffsetUnit,
    Question,
    Response,
    ShortText,
    Text,
    with_current_names,
)
from tamis.service.http.schemas.compress import CompressRequest, OnError, Protect, Return, Status
from tamis.text.language import AUTO

CCR = "ccr"
"""The `config.mode` of Headroom's clients in which what is left out can be had again."""
NOT_WITH_MESSAGES = {
    "documents": "its texts are those of the messages; send documents in a request of their own, "
    "or in a message between tags that config.retrieval_tags names",
    "questions": "a conversation has one question; give question",
    "threshold": "a result is cut to a number of tokens; give max_tokens or ratio",
    "coverage": "no method promises it for what tools return; give max_tokens or ratio",
    "adaptive": "a result is cut to a number of tokens; give max_tokens or ratio",
    "context_window": "lines that belong together are kept together; give a larger ratio",
    "fill": "a result is filled up to its limit as it is; leave it out",
    "dedup": "a repeated line of a log counts; send texts as documents instead",
    "order": "messages keep their places",
    "separator": "messages stay apart; nothing is joined",
    "citations": "compressions has the place of every span",
    "titles": "messages have none",
    "top_n": "no result is left out as a whole; name tools to leave alone in config.exclude_tools",
    "keep_tags": "tags in what a tool returned are its author's; give protect",
    "answerable_floor": "no result is left out as a whole; send texts as documents",
    "unanswerable": "no result is left out as a whole; send texts as documents",
    "read_metadata": "messages have none; send texts as documents",
    "options": "lines are scored by the method as it is; send texts as documents",
    "granularity": "what a tool returned is cut by its format; send texts as documents",
}
"""Fields of our own requests that are refused beside `messages`, each with what to do."""
NO_FORM = "leave it out, or send texts as documents"
"""What to do about any other field."""


class MessagesConfig(LenientRequest):
    """What may be compressed, and how far; the names are Headroom's."""

    compress_user_messages: bool = False
    compress_system_messages: bool = False
    compress_cached: Annotated[
        bool,
        Field(description="Also what stands before the last cache_control: it is cached anew."),
    ] = False
    frozen_message_count: Annotated[
        int, Field(ge=0, le=2**31, description="So many messages at the start stay as they are.")
    ] = 0
    protect_recent: Annotated[
        int, Field(ge=0, le=2**31, description="So many messages at the end stay as they are.")
    ] = 0
    exclude_tools: Annotated[
        list[Text] | None,
        Field(max_length=256, description="Names or patterns (`mcp__*`) of tools to leave alone."),
    ] = None
    retrieval_tags: Annotated[
        list[Text] | None,
        Field(
            max_length=64,
            description="Tags, such as `context`, between which texts of users and systems have "
            "what was retrieved: it is compressed, and the rest of these texts stays.",
        ),
    ] = None
    target_ratio: Annotated[
        float | None,
        Field(gt=0, le=1, description="The share of tokens to keep; the same as ratio."),
    ] = None
    min_tokens_to_compress: Annotated[int, Field(ge=0, le=2**31)] = 250
    steps: Annotated[
        bool,
        Field(
            description="Leave out results that a later step made needless; they count for no "
            "share of the budget but their markers."
        ),
    ] = True
    mode: Annotated[
        Text | None, Field(description="`ccr`: keep what is left out for /v1/retrieve/{hash}.")
    ] = None
    retrieve_tool: Annotated[
        Text | None, Field(description="The tool in tools that gives back what was left out.")
    ] = None


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

    The question of a tool result is the call that made it with `question`, or with the last message
    of a user. `token_budget` is for all messages together; `max_tokens` and `ratio` are for what
    may be compressed of them. Without any of the three, a share of .4 is kept.
    """

    messages: Annotated[list[Message], Field(fail_fast=True, min_length=1)]
    tools: Annotated[
        list[dict[str, Any]] | None,
        Field(description="The tools of the request, in OpenAI's or Anthropic's format."),
    ] = None
    question: Question | None = None
    instruction: Text | None = None
    history: Annotated[list[Text], Field(max_length=64, default_factory=list)]
    model: Text | None = None
    method: Text | None = None
    token_budget: Annotated[int, Field(ge=1, le=2**31)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    lossless: Annotated[
        bool,
        Field(
            description="Leave nothing out: results of tools are written shorter where that can be "
            "undone, below a header that says how."
        ),
    ] = False
    tokenizer: Text = "proxy"
    language: Language = AUTO
    protect: Protect | None = None
    elision: ShortText | None = None
    return_: Annotated[Return, Field(alias="return")] = Return()
    offset_unit: OffsetUnit = "codepoint"
    on_error: OnError = "fail"
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] = 0
    shadow: bool = False
    seed: Annotated[int | None, NOTHING_RANDOM] = None
    user: Annotated[Text | None, NOT_LOGGED] = None
    config: MessagesConfig = MessagesConfig()

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, given: Any) -> Any:
        return with_current_names(cls, given)

    def check_served(self) -> None:
        """Refuses what a conversation cannot be served with.

        Raises:
            BadInput: a field of our own requests that has no form here, or two that contradict each
                other; the message says what to do.
        """
        for given, value in (self.model_extra or {}).items():
            name = OLD_NAMES.get(given, given)
            field = CompressRequest.model_fields.get(name)
            if field is None:
                continue
            default = field.get_default(call_default_factory=True)
            if value not in (None, list(default) if isinstance(default, tuple) else default):
                way_out = NOT_WITH_MESSAGES.get(name, NO_FORM)
                raise BadInput(f"{name} has no form with messages: {way_out}")
        for part in ("documents", "text"):
            if not getattr(self.return_, part):
                raise BadInput(f"return.{part} has no form with messages: they are the answer")
        if self.return_.units != "none":
            raise BadInput(
                "return.units has no form with messages: compressions has the spans that were "
                "kept; for every sentence, send the text to /v1/explain as a document"
            )
        if None not in (self.ratio, self.config.target_ratio):
            raise BadInput("ratio and config.target_ratio mean the same; give one of them")
        if self.lossless:
            self._check_lossless()
        if self.elision is not None and (not self.elision.strip() or "\n" in self.elision):
            raise BadInput(
                f"elision is {self.elision!r}; give a text on one line, or leave it out for "
                "markers that count what was left out"
            )

    def _check_lossless(self) -> None:
        """Refuses what would be ignored where nothing is left out."""
        config, without_use = self.config, "has no use with lossless, which leaves nothing out"
        asked = {
            "token_budget": self.token_budget,
            "max_tokens": self.max_tokens,
            "ratio": self.ratio,
            "method": self.method,
            "elision": self.elision,
            "protect": self.protect,
            "config.target_ratio": config.target_ratio,
            "config.mode": config.mode,
            "config.compress_user_messages": config.compress_user_messages,
            "config.compress_system_messages": config.compress_system_messages,
            "config.retrieval_tags": config.retrieval_tags,
        }
        if given := [name for name, value in asked.items() if value not in (None, False)]:
            what = "only results of tools are written shorter" if "compress_" in given[0] else ""
            why = f"{without_use}: {what}" if what else without_use
            raise BadInput(f"{given[0]} {why}; give one of them")

    @property
    def share(self) -> float | None:
        """The share of tokens to keep, by either of its names."""
        return self.config.target_ratio if self.ratio is None else self.ratio


class Omitted(Response):
    """What was left out at one place: the source's `[start:end]`.

    `first` and `last` are ordinals in the source, from 1, of what `unit` names; `content` says what
    alike lines are, such as `178 more PASSED`.
    """

    start: int
    end: int
    unit: str
    first: int
    last: int
    tokens: int
    content: Text | None = None


class MessageCompression(Response):
    """One text that was shortened: where it is, what was kept of it, and what was left out.

    `path` is a JSON pointer into the request; `part` is the index of the block in the message's
    content. `kept` has half-open spans of the source in `offset_unit`. `superseded` says why a
    later step made all of it needless; it is null where the text was shortened.
    """

    message: int
    part: int | None
    path: str
    tool: Text | None
    format: str
    kept: list[list[int]] | None
    omissions: list[Omitted] | None
    tokens_before: int
    tokens_after: int
    hash: str | None
    superseded: Reason | None


class MessagesAnswer(Response):
    """The same messages, compressed; the fields up to `ccr_hashes` are Headroom's."""

    messages: list[dict[str, Any]]
    tokens_before: int
    tokens_after: int
    tokens_saved: int
    compression_ratio: float
    transforms_applied: list[str]
    transforms_summary: dict[str, int]
    ccr_hashes: list[str]
    compressions: list[MessageCompression]
    method: Text | None
    tokenizer: Text
    status: Status
    warnings: list[Text]


class RetrievedOriginal(Response):
    """A text as it was before it was shortened, or the lines of it that were asked for.

    `original_content` has those lines verbatim, `lines` their ranges, from 1 and inclusive.
    `original_tokens` and `original_item_count` (lines) are of the whole text,
    `compressed_item_count` of what was shown of it.
    """

    hash: str
    original_content: Text
    original_tokens: int
    original_item_count: int
    compressed_item_count: int
    tool_name: Text | None
    retrieval_count: int
    lines: list[list[int]]
    warnings: list[Text]
