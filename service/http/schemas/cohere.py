"""`POST /v2/rerank`, as Cohere's clients speak it (cohere 7.3: `V2RerankResponse`).

`relevant_spans` are code points, half-open, whole sentences. Only the fields of Cohere's answer are
in ours, and those that are not set are left out, as theirs are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tamis.compressors.types import Reranked
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import LenientRequest, Question, Text, Response, new_uuid, to_probability

DOCUMENTS_PER_UNIT = 100


class RelevantSpans(LenientRequest):
    """Whether to say which parts of each document answer, from which score on, and how many."""

    mode: Literal["enabled", "disabled"] = "disabled"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    max_spans: Annotated[int, Field(ge=1, le=2**31)] | None = None


class CohereRequest(LenientRequest):
    """Which documents answer the query best."""

    model: Text | None = None
    query: Question
    documents: list[Text]
    top_n: Annotated[int, Field(ge=1, le=2**31)] | None = None
    max_tokens_per_doc: Annotated[int, Field(ge=1, le=2**31)] | None = None
    relevant_spans: RelevantSpans | None = None
    priority: Annotated[int, Field(ge=0, le=999)] = 0


class CohereSpan(Response):
    """`document[start:end]`, in code points."""

    start: int
    end: int
    score: float


class CohereResult(Response):
    """One document's place."""

    index: int
    relevance_score: float
    relevant_spans: list[CohereSpan] | None = None


class ApiVersion(Response):
    """Of the dialect."""

    version: Literal["2"] = "2"


class BilledUnits(Response):
    """One search unit for each hundred documents."""

    search_units: int


class CohereTokens(Response):
    """What was read."""

    input_tokens: int
    output_tokens: int = 0


class CohereMeta(Response):
    """What it cost."""

    api_version: ApiVersion = ApiVersion()
    billed_units: BilledUnits
    tokens: CohereTokens
    cached_tokens: int
    warnings: list[Text]


class CohereAnswer(Response):
    """Documents, best first."""

    id: str
    results: list[CohereResult]
    meta: CohereMeta


def cohere_answer(request: CohereRequest, found: Reranked) -> CohereAnswer:
    """The answer in Cohere's words.

    Raises:
        BadInput: spans were asked for, and the method scores no sentences.
    """
    spans = _relevant_spans(request.relevant_spans, found)
    results = [
        CohereResult(
            index=ranked.index,
            relevance_score=to_probability(ranked.score, found.calibrated),
            relevant_spans=None if spans is None else spans[ranked.index],
        )
        for ranked in found.results
    ]
    return CohereAnswer(
        id=new_uuid(),
        results=results,
        meta=CohereMeta(
            billed_units=BilledUnits(search_units=-(-len(request.documents) // DOCUMENTS_PER_UNIT)),
            tokens=CohereTokens(input_tokens=found.tokens_read),
            cached_tokens=found.tokens_cached,
            warnings=[*found.warnings, *_ignored_field_warnings(request)],
        ),
    )


def _ignored_field_warnings(request: CohereRequest) -> list[str]:
    """What was asked for and is not done."""
    if request.max_tokens_per_doc is None:
        return []
    return ["max_tokens_per_doc is not needed: documents are read whole, in windows"]


def _relevant_spans(asked: RelevantSpans | None, found: Reranked) -> list[list[CohereSpan]] | None:
    """Of each document, the sentences above the threshold, at most so many, in text order."""
    if asked is None or asked.mode == "disabled":
        return None
    there = any(passage.text.strip() for passage in found.passages)
    if there and not (found.scores and found.calibrated):
        raise BadInput(f"{found.method} gives no probability for each sentence; use question_rows")
    floor = 0.1 if asked.threshold is None else asked.threshold
    best: list[list[Any]] = [[] for _ in found.passages]
    for unit, score in zip(found.units, found.scores, strict=True):
        if score >= floor:
            best[unit.passage].append((score, *unit.visible))
    return [
        [
            CohereSpan(start=start, end=end, score=to_probability(score))
            for score, start, end in sorted(
                sorted(spans, key=lambda s: (-s[0], s[1]))[: asked.max_spans], key=lambda s: s[1]
            )
        ]
        for spans in best
    ]
