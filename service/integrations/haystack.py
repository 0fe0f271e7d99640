"""tamis in Haystack: a ranker that compresses what it ranks, and a compactor for agents.

    pipeline.add_component("ranker", TamisRanker(max_tokens=500))
    pipeline.connect("retriever.documents", "ranker.documents")
    CompactionHook(TamisCompactor(), context_window=200_000)  # of an agent, before_llm

Works in this process, or through a tamis server with `base_url`. Only haystack-ai is needed.
"""

# no `from __future__ import annotations`: Haystack reads the annotations of `run` as they are

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from tamis.compressors.rules import BUDGETS, MAX_TOKENS
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, MissingExtra
from tamis.text.types import Passage

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.dataclasses import ChatMessage, ToolCallResult
    from haystack.utils import Secret
except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[haystack]"') from error

from tamis.service.agents.compaction import MIN_KEEP_STEPS, StepCompaction
from tamis.service.agents.shortening import Shortening
from tamis.service.integrations.backend import CompressedContext, Excerpt, run_in_thread
from tamis.service.integrations.fields import CompressionFields, check_kind, copy_metadata

__all__ = ["TamisCompactor", "TamisRanker"]
_COMPACTED = "context_compaction"
"""The key of `meta` by which Haystack's own compactors know what was compacted."""
F = TypeVar("F", bound=Callable[..., Any])
_returns_documents: Callable[[F], F] = component.output_types(documents=list[Document])


class _WithKey:
    """A part of a pipeline that may have the key of a server."""

    _secret: Secret | None

    @property
    def _key(self) -> Any:
        return self._secret.resolve_value() if self._secret else None

    def _component_dict(self, **given: Any) -> dict[str, Any]:
        secret = {} if self._secret is None else {"api_key": self._secret.to_dict()}
        saved: dict[str, Any] = default_to_dict(self, **given, **secret)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """What `to_dict` wrote; a key is read from its environment variable."""
        parameters = dict(data.get("init_parameters", {}))
        if isinstance(parameters.get("api_key"), dict):
            parameters["api_key"] = Secret.from_dict(parameters["api_key"])
        read: Self = default_from_dict(cls, {**data, "init_parameters": parameters})
        return read


@component
class TamisRanker(_WithKey):
    """Ranks documents by how well they answer, and keeps the sentences that do, within a budget.

    Returns one document for each that keeps something, best first (`order="original"`: as they
    came); joined by `separator`, their contents are within the budget: 500 tokens if neither a
    budget nor `top_k` is given. `top_k` alone ranks whole documents. The input documents are not
    changed. Ids, embeddings and metadata stay, but for `split_idx_start`, which is that of what is
    kept, or None where that is in pieces; `score` is the new one, and `meta` has `evidence_score`
    and `compression` added: spans, tokens before and after, source length, answerability, verdict,
    reason, model, method, status, warnings. A document without content, such as an image, stays as
    it is, behind the others where they are sorted.

    Where the model or the server fails, every document stays whole, `compression` has the status
    `failed` and a warning that says why, and the failure is logged; `on_error="fail"` raises
    instead.

    Args:
        top_k: the most documents to return.
        api_key: of the server; a `Secret` of an environment variable can be saved with a pipeline.
        fields: those of `CompressionFields`, such as `max_tokens`, `coverage`, `method`,
            `base_url`.

    Raises:
        ValueError: a field that does not exist, or values that contradict each other.
    """

    def __init__(
        self, *, top_k: int | None = None, api_key: Secret | str | None = None, **fields: Any
    ) -> None:
        if top_k is not None and "top_n" in fields:
            raise BadInput("top_k and top_n mean the same; give one of them")
        self._secret = Secret.from_token(api_key) if isinstance(api_key, str) else api_key
        self._given = fields if top_k is None else {**fields, "top_n": top_k}
        self._fields_for(None)  # says now what is wrong with them

    def to_dict(self) -> dict[str, Any]:
        """The component as a part of a saved pipeline.

        Raises:
            BadInput: a loaded proxy, a cache or a tokenizer, which no file can hold.
        """
        plain = {
            name: str(value) if isinstance(value, Path) else value
            for name, value in self._given.items()
        }
        for name in ("proxy", "cache", "tokenizer"):
            if not isinstance(plain.get(name), str | None):
                raise BadInput(
                    f"{name} is a {type(plain[name]).__name__}, which cannot be saved with a "
                    "pipeline; give its name or its folder"
                )
        return self._component_dict(**plain)

    @_returns_documents
    def run(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """The documents, ranked and reduced to what answers the query.

        Args:
            top_k: of this run, in place of the constructor's.

        Raises:
            TamisError: and its subclasses, where the request or the set-up is wrong. Under
                `on_error="fail"` also every failure of the model or the server.
        """
        fields, texts = self._fields_for(top_k), _text_documents(documents)
        context = fields.compress_passages(query, _passages(texts, fields))
        shortened = partial(_compressed_document, fields=fields)
        return {"documents": fields.join_parts(documents, texts, context, shortened)}

    @_returns_documents
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` without blocking the event loop."""
        fields, texts = self._fields_for(top_k), _text_documents(documents)
        context = await fields.acompress_passages(query, _passages(texts, fields))
        shortened = partial(_compressed_document, fields=fields)
        return {"documents": fields.join_parts(documents, texts, context, shortened)}

    def _fields_for(self, top_k: int | None) -> CompressionFields:
        """The fields of a run; a `top_k` of the run narrows the budget, and does not replace it."""
        given = {"order": "score", **self._given}
        if given.get("top_n") is None and all(given.get(name) is None for name in BUDGETS):
            given["max_tokens"] = MAX_TOKENS
        if top_k is not None:
            given["top_n"] = top_k
        return CompressionFields(**given, api_key=self._key)


def _text_documents(documents: Sequence[Document]) -> dict[int, Document]:
    """Documents with text, by their indices.

    Raises:
        BadInput: one is no document of Haystack.
    """
    check_kind(documents, Document, "haystack's Document(content=...)")
    return {i: document for i, document in enumerate(documents) if (document.content or "").strip()}


def _passages(documents: Mapping[int, Document], fields: CompressionFields) -> list[Passage]:
    return [fields.passage(d.content, d.id, d.meta) for d in documents.values()]


def _compressed_document(
    source: Document, part: Excerpt, context: CompressedContext, fields: CompressionFields
) -> Document:
    added = fields.added_metadata(part, context, len(source.content))
    return dataclasses.replace(
        source,
        content=part.text,
        score=source.score if part.score is None else context.evidence(part),
        meta=copy_metadata(source.meta, part, source.content) | added,
    )


class TamisCompactor(_WithKey):
    """A `Compactor` of Haystack 3 that compacts the results of tools; every call keeps its result.

    Results that a later step made needless go first, then the older ones that have least to do with
    the last turns are shortened, and in need replaced by a marker. Markers name the id by which
    `tamis run --retrieve` or the tool `retrieve` of `tamis mcp` gives the whole result back.

    Args:
        min_keep_steps: so many of the last steps that call tools stay whole.
        exclude_tools: names or patterns of tools whose results stay, as mcp__*.
        skip_meta_keys: results whose `meta` has one of these keys stay.
        base_url: of a tamis server; None is this process. api_key: of the server.
        fields: those of `Shortening`, such as `ratio`, `method`, `no_store`.

    Raises:
        BadInput: a number out of range.
    """

    def __init__(
        self,
        *,
        min_keep_steps: int = MIN_KEEP_STEPS,
        exclude_tools: Sequence[str] = (),
        skip_meta_keys: Sequence[str] = ("tool_result_offloaded",),
        base_url: str | None = None,
        api_key: Secret | str | None = None,
        **fields: Any,
    ) -> None:
        self._secret = Secret.from_token(api_key) if isinstance(api_key, str) else api_key
        self._given = {
            "min_keep_steps": min_keep_steps,
            "exclude_tools": list(exclude_tools),
            "skip_meta_keys": list(skip_meta_keys),
            "base_url": base_url,
            **fields,
        }
        shortening = Shortening(**fields, url=base_url, api_key=self._key)
        self._compaction = StepCompaction(shortening, min_keep_steps, exclude_tools)
        self._skipped = set(skip_meta_keys)

    def to_dict(self) -> dict[str, Any]:
        """The compactor as a part of a saved agent."""
        return self._component_dict(**self._given)

    def compact(
        self, messages: list[ChatMessage], target_tokens: int, token_counter: Any
    ) -> list[ChatMessage] | None:
        """The conversation with shorter results; None where nothing gets shorter.

        Args:
            target_tokens: that it should have; the last steps and all other messages stay.
            token_counter: a `TokenCounter` of Haystack.

        Raises:
            TamisError, OSError: the set-up is wrong, or the server cannot be reached.
        """
        excess = token_counter.count(messages=messages) - target_tokens
        if excess <= 0:
            return None
        places, steps = list[int](), list[ToolOutput]()
        for at, message in enumerate(messages):
            found = message.tool_call_result
            if found is not None and isinstance(found.result, str):
                places.append(at)
                steps.append(_step(found, is_named=not self._skipped & set(message.meta)))
        called = [at for at, message in enumerate(messages) if message.tool_calls]
        asked = [m.text for m in messages if m.is_from("user") and m.text][-1:]
        keep_last, question = self._compaction.last_steps(steps, places, called, asked)

        def count(index: int, text: str) -> int:
            return int(token_counter.count(messages=[_with_text(messages[places[index]], text)]))

        texts = self._compaction.compact(steps, keep_last, question, excess, count)
        new = {places[i]: text for i, text in texts.items()}
        if not new:
            return None
        return [_with_text(m, new[at]) if at in new else m for at, m in enumerate(messages)]

    async def compact_async(
        self, messages: list[ChatMessage], target_tokens: int, token_counter: Any
    ) -> list[ChatMessage] | None:
        """`compact` without blocking the event loop."""
        work = partial(self.compact, messages, target_tokens, token_counter)
        return await run_in_thread(work)


def _step(found: ToolCallResult, is_named: bool) -> ToolOutput:
    """A result with its call; what the tool itself printed may say that it failed, too."""
    call = found.origin
    arguments = json.dumps(call.arguments, ensure_ascii=False, default=str)
    name = call.tool_name if is_named else None
    return ToolOutput(str(found.result), name, arguments, True if found.error else None)


def _with_text(message: ChatMessage, text: str) -> ChatMessage:
    found = message.tool_call_result
    assert found is not None
    return ChatMessage.from_tool(
        text,
        origin=found.origin,
        error=found.error,
        meta={**message.meta, _COMPACTED: {"strategy": "tamis"}},
    )
