"""`POST /v1/rerank` and `/rerank` with `documents`: Jina, Cohere v1, vLLM and infinity.

One answer serves all of them: each client reads its own fields and ignores the others. Documents
are returned as `{"text": …}`. For infinity, whose requests have `raw_scores` or come to a path of
its own, they are strings, or null where it did not ask for them; for Cohere they are returned only
on request, without the field otherwise.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from tamis.compressors.types import Reranked
from tamis.service.http.schemas.base import (
    LenientFlag,
    LenientNumber,
    Priority,
    Response,
    Text,
    new_uuid,
    unix_seconds,
)
from tamis.service.http.schemas.dialects.ranked_documents import RankRequest
from tamis.service.http.schemas.dialects.tei import score_of

COHERE_MODELS = re.compile(r"rerank-(?:v\d|english|multilingual)")
"""Matches the beginning of the names of Cohere's models."""


class JinaRequest(RankRequest):
    """Which documents answer the query best."""

    model: Text | None = None
    top_n: LenientNumber | None = None
    return_documents: LenientFlag | None = None
    instruction: Text | None = None
    max_chunks_per_doc: LenientNumber | None = None
    max_tokens_per_doc: LenientNumber | None = None
    raw_scores: LenientFlag | None = None
    priority: Priority = 0

    @property
    def is_infinity(self) -> bool:
        """Whether one of infinity's clients sent this request; the route also checks the path."""
        return self.raw_scores is not None

    @property
    def is_cohere(self) -> bool:
        """Whether it has what only Cohere's clients send; the route also checks headers."""
        own = self.max_chunks_per_doc is not None or self.rank_fields is not None
        return own or COHERE_MODELS.match(self.model or "") is not None


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
    warnings: list[Text]


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
    only_on_request: bool = False,
    infinity: bool = False,
) -> JinaAnswer:
    """The answer in Jina's dialect and those like it.

    Args:
        only_on_request: documents are returned only if `return_documents` is set.
        infinity: documents are returned as strings, or null.
    """
    with_documents = (
        not only_on_request if request.return_documents is None else request.return_documents
    )
    own = request.returned_texts() if with_documents else None
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
                **_document_field(infinity, own[ranked.index] if own else None),
            )
            for ranked in found.results
        ],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
        meta=JinaMeta(
            billed_units=JinaBilled(search_units=-(-len(request.documents) // 100)),
            warnings=[*found.warnings, *request.field_warnings()],
        ),
    )


def _document_field(infinity: bool, text: str | None) -> dict[str, Any]:
    """The `document` field of a result, if it has one; `text` is None where it is not returned."""
    if infinity:
        return {"document": text}
    return {} if text is None else {"document": JinaText(text=text)}
