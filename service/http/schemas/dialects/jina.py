"""`POST /v1/rerank` and `/rerank` with `documents`: Jina, Cohere v1, vLLM and infinity.

One answer serves all of them: each client reads its own fields and ignores the others. Documents
are returned as `{"text": …}`. For infinity, whose requests have `raw_scores` or come to a path of
its own, they are strings, or null where it did not ask for them; for Cohere they are returned only
on request, without the field otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from tamis.compressors.types import Reranked
from tamis.service.http.schemas.base import (
    READ_WHOLE,
    LenientFlag,
    LenientNumber,
    NoEffect,
    Priority,
    Response,
    Text,
    new_uuid,
    unix_seconds,
)
from tamis.service.http.schemas.dialects.base import (
    Arrival,
    Dialect,
    RankCall,
    RankRequest,
    ranked_scores,
    search_units,
)

COHERE_MODELS = re.compile(r"rerank-(?:v\d|english|multilingual)")
"""Matches the beginning of the names of Cohere's models."""
_INFINITY, _DASHSCOPE = "/infinity/", "/reranks"
"""Where these clients come, whose requests look like vLLM's."""


class JinaRequest(RankRequest):
    """Which documents answer the query best."""

    top_n: LenientNumber | None = None
    return_documents: LenientFlag | None = None
    instruction: Text | None = None
    max_chunks_per_doc: Annotated[LenientNumber | None, NoEffect(READ_WHOLE)] = None
    max_tokens_per_doc: Annotated[LenientNumber | None, NoEffect(READ_WHOLE)] = None
    raw_scores: LenientFlag | None = None
    priority: Priority = 0

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for; a `top_n` of 0 asks for all documents."""
        return self.rank_call(
            self.top_n or None, priority=self.priority, instruction=self.instruction
        )

    def is_infinity(self, arrival: Arrival) -> bool:
        """Whether one of infinity's clients sent this request."""
        return self.raw_scores is not None or arrival.path.startswith(_INFINITY)

    def is_cohere(self, arrival: Arrival) -> bool:
        """Whether one of Cohere's clients sent it, or it has what only those send."""
        own = self.max_chunks_per_doc is not None or self.rank_fields is not None
        named = COHERE_MODELS.match(self.model or "") is not None
        return own or named or _is_cohere_sdk(arrival.headers)


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


def jina_answer(request: JinaRequest, found: Reranked, arrival: Arrival) -> JinaAnswer:
    """The answer in Jina's dialect and those like it."""
    infinity = request.is_infinity(arrival)
    with_documents = request.return_documents
    if with_documents is None:  # without being asked, these return none
        is_dashscope = arrival.path.endswith(_DASHSCOPE)
        with_documents = not (infinity or is_dashscope or request.is_cohere(arrival))
    own = request.returned_texts() if with_documents else None
    return JinaAnswer(
        id=new_uuid(),
        created=unix_seconds(),
        model=arrival.answered_model(request.model),
        results=[
            JinaResult(
                index=i, relevance_score=score, **_document_field(infinity, own[i] if own else None)
            )
            for i, score in ranked_scores(found, request.raw_scores or False)
        ],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
        meta=JinaMeta(
            billed_units=JinaBilled(search_units=search_units(len(request.documents))),
            warnings=[*found.warnings, *request.field_warnings()],
        ),
    )


def _document_field(infinity: bool, text: str | None) -> dict[str, Any]:
    """The `document` field of a result, if it has one; `text` is None where it is not returned."""
    if infinity:
        return {"document": text}
    return {} if text is None else {"document": JinaText(text=text)}


def _is_cohere_sdk(headers: Mapping[str, str]) -> bool:
    """Whether Cohere's SDK sent the request; requests of its version 1 look like Jina's."""
    names = (headers.get("user-agent", ""), headers.get("x-fern-sdk-name", ""))
    return "x-client-name" in headers or any(name.lower().startswith("cohere") for name in names)


JINA = Dialect(
    name="Jina, Cohere v1, vLLM, infinity, Contextual, Xinference, DashScope",
    request=JinaRequest,
    answer=JinaAnswer,
    to_answer=jina_answer,
    warnings="`meta.warnings`",
)
