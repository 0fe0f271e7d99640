"""tamis in Haystack: a ranker that compresses what it ranks.

    pipeline.add_component("ranker", TamisRanker(max_tokens=500))
    pipeline.connect("retriever.documents", "ranker.documents")

Works in this process, or through a tamis server with `base_url`. Only haystack-ai is needed.
"""

# no `from __future__ import annotations`: Haystack reads the annotations of `run` as they are

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from tamis.compressors.rules import BUDGETS, MAX_TOKENS
from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.text import Passage

try:
    from haystack import Document, component, default_from_dict, default_to_dict
    from haystack.utils import Secret
except ImportError as error:
    raise MissingExtra(f'{error.name} is not installed; pip install "tamis[haystack]"') from error

from tamis.service.integrations.backend import CompressedContext, Excerpt
from tamis.service.integrations.fields import CompressionFields, copy_metadata

__all__ = ["TamisRanker"]
F = TypeVar("F", bound=Callable[..., Any])
_returns_documents: Callable[[F], F] = component.output_types(documents=list[Document])


@component
class TamisRanker:
    """Ranks documents by how well they answer, and keeps the sentences that do, within a budget.

    Returns one document for each that keeps something, best first (`order="original"`: as they
    came); joined by `separator`, their contents are within the budget: 500 tokens if neither a
    budget nor `top_k` is given. `top_k` alone ranks whole documents. The input documents are not
    changed. Ids, embeddings and metadata stay; `score` is the new one, and `meta` has
    `relevance_score` and `compression` added: spans, tokens before and after, source length,
    answerability, verdict, reason, model, method, status, warnings. A document without content,
    such as an image, stays as it is, behind the others where they are sorted.

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
        self._given = fields if top_k is None else {**fields, "top_n": top_k}
        self._secret = Secret.from_token(api_key) if isinstance(api_key, str) else api_key
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
        secret = {} if self._secret is None else {"api_key": self._secret.to_dict()}
        saved: dict[str, Any] = default_to_dict(self, **plain, **secret)
        return saved

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """The component that `to_dict` wrote; a key is read from its environment variable."""
        parameters = dict(data.get("init_parameters", {}))
        if isinstance(parameters.get("api_key"), dict):
            parameters["api_key"] = Secret.from_dict(parameters["api_key"])
        read: Self = default_from_dict(cls, {**data, "init_parameters": parameters})
        return read

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
        return {"documents": _merge_documents(documents, texts, context, fields)}

    @_returns_documents
    async def run_async(
        self, query: str, documents: list[Document], top_k: int | None = None
    ) -> dict[str, list[Document]]:
        """`run` without blocking the event loop."""
        fields, texts = self._fields_for(top_k), _text_documents(documents)
        context = await fields.acompress_passages(query, _passages(texts, fields))
        return {"documents": _merge_documents(documents, texts, context, fields)}

    def _fields_for(self, top_k: int | None) -> CompressionFields:
        """The fields of a run; a `top_k` of the run narrows the budget, and does not replace it."""
        given = {"order": "score", **self._given}
        if given.get("top_n") is None and all(given.get(name) is None for name in BUDGETS):
            given["max_tokens"] = MAX_TOKENS
        if top_k is not None:
            given["top_n"] = top_k
        key = self._secret.resolve_value() if self._secret else None
        return CompressionFields(**given, api_key=key)


def _text_documents(documents: Sequence[Document]) -> dict[int, Document]:
    """Documents with text, by their indices."""
    return {i: document for i, document in enumerate(documents) if (document.content or "").strip()}


def _passages(documents: Mapping[int, Document], fields: CompressionFields) -> list[Passage]:
    return [
        Passage(d.content, d.id, _title(d, fields.title_key), fields.metadata_read(d.meta))
        for d in documents.values()
    ]


def _title(document: Document, key: str | None) -> str | None:
    title = document.meta.get(key) if key else None
    return title if isinstance(title, str) else None


def _merge_documents(
    documents: Sequence[Document],
    texts: Mapping[int, Document],
    context: CompressedContext,
    fields: CompressionFields,
) -> list[Document]:
    """Compressed documents and those without text: in input order, or those without text last."""
    indices = list(texts)
    kept = {
        (index := indices[part.passage]): _compressed_document(texts[index], part, context, fields)
        for part in context.parts
    }
    both = kept | {i: document for i, document in enumerate(documents) if i not in texts}
    return [both[index] for index in (sorted(both) if fields.order == "original" else both)]


def _compressed_document(
    source: Document, part: Excerpt, context: CompressedContext, fields: CompressionFields
) -> Document:
    added = fields.added_metadata(part, context, len(source.content), source.meta)
    return dataclasses.replace(
        source,
        content=part.text,
        score=source.score if part.score is None else part.score,
        meta=copy_metadata(source.meta) | added,
    )
