"""`POST /v1/rerank` and `/rerank` with `documents`: Jina, Cohere v1, vLLM and infinity.

One answer serves all of them: each client reads its own fields and ignores the others. Documents
are returned as `{"text": …}`. For infinity, whose requests have `raw_scores`, they are strings, or
null where it did not ask for them; for Cohere they are returned only on request, without the field
otherwise.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from tamis.compressors.types import Reranked
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import (
    LenientRequest,
    Question,
    Response,
    Text,
    new_uuid,
    unix_seconds,
)
from tamis.service.http.schemas.tei import score_of

COHERE_MODELS = re.compile(r"rerank-(?:v\d|english|multilingual)")
"""Matches the beginning of the names of Cohere's models."""


class JinaDocument(LenientRequest):
    """A document as an object; Cohere v1 ranks by the fields that `rank_fields` names."""

    model_config = ConfigDict(strict=True, extra="allow")

    text: Text | None = None


class JinaRequest(LenientRequest):
    """Which documents answer the query best."""

    model: Text | None = None
    query: Question
    documents: list[Text | JinaDocument]
    top_n: Annotated[int, Field(ge=0, le=2**31)] | None = None
    return_documents: bool | None = None
    rank_fields: list[Text] | None = None
    max_chunks_per_doc: int | None = None
    raw_scores: bool | None = None
    priority: Annotated[int, Field(ge=0, le=999)] = 0

    @property
    def is_infinity(self) -> bool:
        """Whether one of infinity's clients sent this request."""
        return self.raw_scores is not None

    @property
    def is_cohere(self) -> bool:
        """Whether it has what only Cohere's clients send; the route also checks headers."""
        own = self.max_chunks_per_doc is not None or self.rank_fields is not None
        return own or COHERE_MODELS.match(self.model or "") is not None

    def texts(self) -> list[str]:
        """The text of each document that is ranked.

        Raises:
            BadInput: a document without such text.
        """
        return [self._text(i, d) for i, d in enumerate(self.documents)]

    def returned_texts(self, ranked: list[str]) -> list[str]:
        """The text to return of each document: its own, or the ranked text where it has none."""
        own = [getattr(document, "text", document) for document in self.documents]
        return [text if isinstance(text, str) else ranked[i] for i, text in enumerate(own)]

    def _text(self, index: int, document: str | JinaDocument) -> str:
        if isinstance(document, str):
            return document
        fields = {**(document.model_extra or {}), "text": document.text}
        names = self.rank_fields or ["text"]
        found = [fields[name] for name in names if isinstance(fields.get(name), str)]
        if not found:
            raise BadInput(f"document {index} has no text in {names}")
        return "\n".join(found)


class JinaText(Response):
    """A returned document; `multi_modal` is vLLM's field and always null."""

    text: Text
    multi_modal: None = None


class JinaResult(Response):
    """The rank of one document; an unset `document` is left out, one that is null is kept."""

    index: int
    relevance_score: float
    document: JinaText | Text | None = None

    @model_serializer(mode="wrap")
    def _omit_unset(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = written(self)
        return {name: fields[name] for name in fields if name in self.model_fields_set}


class JinaUsage(Response):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int


class JinaBilled(Response):
    """Cohere v1's unit."""

    search_units: int


class JinaVersion(Response):
    """The version of Cohere's dialect."""

    version: Literal["1"] = "1"


class JinaMeta(Response):
    """Cohere v1's `meta`."""

    api_version: JinaVersion = JinaVersion()
    billed_units: JinaBilled


class JinaAnswer(Response):
    """Documents, best first."""

    id: str
    object: Literal["rerank"] = "rerank"
    created: int
    model: str
    results: list[JinaResult]
    usage: JinaUsage
    meta: JinaMeta


def jina_answer(
    request: JinaRequest,
    found: Reranked,
    model: str,
    texts: list[str],
    only_on_request: bool = False,
) -> JinaAnswer:
    """The answer in Jina's dialect and those like it.

    Args:
        only_on_request: documents are returned only if `return_documents` is set.
    """
    with_documents = (
        not only_on_request if request.return_documents is None else request.return_documents
    )
    own = request.returned_texts(texts) if with_documents else None
    return JinaAnswer(
        id=new_uuid(),
        created=unix_seconds(),
        model=model,
        results=[
            JinaResult(
                index=ranked.index,
                relevance_score=score_of(
                    ranked.score, found.calibrated, request.raw_scores or False
                ),
                **_document_field(request, own[ranked.index] if own else None),
            )
            for ranked in found.results
        ],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
        meta=JinaMeta(billed_units=JinaBilled(search_units=-(-len(texts) // 100))),
    )


def _document_field(request: JinaRequest, text: str | None) -> dict[str, Any]:
    """The `document` field of a result, if it has one; `text` is None where it is not returned."""
    if request.is_infinity:
        return {"document": text}
    return {} if text is None else {"document": JinaText(text=text)}
