"""`POST /v2/rerank` in Cohere's dialect (cohere 7.3: `V2RerankResponse`).

`relevant_spans` are half-open code points of whole sentences. The answer has only the fields of
Cohere's, and fields that are not set are left out, as in Cohere's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tamis.compressors.types import Reranked, to_probability
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import (
    READ_WHOLE,
    LenientCount,
    LenientFlag,
    LenientRequest,
    NoEffect,
    Priority,
    Response,
    Text,
    new_uuid,
)
from tamis.service.http.schemas.dialects.base import (
    Arrival,
    Dialect,
    RankCall,
    RankRequest,
    ranked_scores,
    search_units,
)


class RelevantSpans(LenientRequest):
    """Whether to return the spans of each document that answer, their least score and number."""

    mode: Literal["enabled", "disabled"] = "disabled"
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    max_spans: Annotated[int, Field(ge=1, le=2**31)] | None = None

    @model_validator(mode="after")
    def _is_enabled(self) -> Self:
        if self.mode == "disabled" and (self.threshold, self.max_spans) != (None, None):
            raise ValueError("threshold and max_spans say which spans are returned; give mode, too")
        return self


class CohereRequest(RankRequest):
    """Which documents answer the query best.

    Some clients of version 1 come here as well: with documents as objects, `rank_fields` and
    `return_documents`.
    """

    top_n: LenientCount | None = None
    return_documents: LenientFlag | None = None
    instruction: Text | None = None
    max_tokens_per_doc: Annotated[LenientCount | None, NoEffect(READ_WHOLE)] = None
    relevant_spans: RelevantSpans | None = None
    priority: Priority = 0

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for."""
        spans = self.relevant_spans is not None and self.relevant_spans.mode == "enabled"
        return self.rank_call(
            self.top_n, priority=self.priority, instruction=self.instruction, with_spans=spans
        )


class CohereSpan(Response):
    """`document[start:end]`, in code points."""

    start: int
    end: int
    score: float


class CohereDocument(Response):
    """A returned document."""

    text: Text


class CohereResult(Response):
    """The rank of one document."""

    index: int
    relevance_score: float
    document: CohereDocument | None = None
    relevant_spans: list[CohereSpan] | None = None


class ApiVersion(Response):
    """The version of the dialect."""

    version: Literal["2"] = "2"


class BilledUnits(Response):
    """One search unit for each hundred documents."""

    search_units: int


class CohereTokens(Response):
    """Tokens that were read."""

    input_tokens: int
    output_tokens: int = 0


class CohereMeta(Response):
    """The cost of the request."""

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


def cohere_answer(request: CohereRequest, found: Reranked, _: Arrival) -> CohereAnswer:
    """The answer in Cohere's dialect.

    Raises:
        BadInput: spans were requested, and the method scores no sentences.
    """
    spans = _relevant_spans(request.relevant_spans, found)
    own = request.returned_texts() if request.return_documents else None
    results = [
        CohereResult(
            index=i,
            relevance_score=score,
            document=CohereDocument(text=own[i]) if own else None,
            relevant_spans=None if spans is None else spans[i],
        )
        for i, score in ranked_scores(found)
    ]
    return CohereAnswer(
        id=new_uuid(),
        results=results,
        meta=CohereMeta(
            billed_units=BilledUnits(search_units=search_units(len(request.documents))),
            tokens=CohereTokens(input_tokens=found.tokens_read),
            cached_tokens=found.tokens_cached,
            warnings=[*found.warnings, *request.field_warnings()],
        ),
    )


def _relevant_spans(
    options: RelevantSpans | None, found: Reranked
) -> list[list[CohereSpan]] | None:
    """For each document the sentences above the threshold, at most `max_spans`, in text order."""
    if options is None or options.mode == "disabled":
        return None
    has_text = any(passage.text.strip() for passage in found.passages)
    if has_text and not (found.scores and found.calibrated):
        raise BadInput(f"{found.method} gives no probability for each sentence; use question_rows")
    floor = 0.1 if options.threshold is None else options.threshold
    best: list[list[Any]] = [[] for _ in found.passages]
    for unit, score in zip(found.units, found.scores, strict=True):
        if score >= floor:
            best[unit.passage].append((score, *unit.visible))
    return [
        [
            CohereSpan(start=start, end=end, score=to_probability(score))
            for score, start, end in sorted(
                sorted(spans, key=lambda s: (-s[0], s[1]))[: options.max_spans], key=lambda s: s[1]
            )
        ]
        for spans in best
    ]


COHERE = Dialect(
    name="Cohere v2",
    request=CohereRequest,
    answer=CohereAnswer,
    to_answer=cohere_answer,
    errors="cohere",
    warnings="`meta.warnings`",
    omits_none=True,
)
