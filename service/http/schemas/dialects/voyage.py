"""`POST /v1/rerank` with `top_k`, `truncation` or one of Voyage's models (`RerankingObject`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from tamis.compressors.types import Reranked, to_probability
from tamis.service.http.schemas.base import (
    NOTHING_TRUNCATED,
    LenientCount,
    LenientFlag,
    Response,
    Text,
)
from tamis.service.http.schemas.dialects.base import Arrival, Dialect, RankCall, RankRequest

VOYAGE_KEYS = ("top_k", "truncation")
VOYAGE_MODELS = re.compile(r"rerank-(?:lite-)?\d")
"""Matches the beginning of the names of Voyage's models; Cohere's have a word or a v there."""
_OTHER_DIALECT_KEYS = ("top_n", "raw_scores", "rank_fields", "max_chunks_per_doc")


def is_voyage(body: Mapping[str, Any]) -> bool:
    """Whether a body is of Voyage's clients; by its model only if no field speaks against it."""
    if any(key in body for key in VOYAGE_KEYS):
        return True
    model = body.get("model")
    named = isinstance(model, str) and VOYAGE_MODELS.match(model) is not None
    return named and not any(key in body for key in _OTHER_DIALECT_KEYS)


class VoyageRequest(RankRequest):
    """Which documents answer the query best. Documents are read whole, so nothing is truncated."""

    top_k: LenientCount | None = None
    return_documents: LenientFlag | None = None
    truncation: Annotated[LenientFlag | None, NOTHING_TRUNCATED] = None
    instruction: Text | None = None

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for."""
        return self.rank_call(self.top_k, instruction=self.instruction)


class VoyageResult(Response):
    """The rank of one document."""

    index: int
    relevance_score: float
    document: Text | None = None


class VoyageUsage(Response):
    """Tokens that were read."""

    total_tokens: int


class VoyageAnswer(Response):
    """Documents, best first."""

    object: Literal["list"] = "list"
    data: list[VoyageResult]
    model: str
    usage: VoyageUsage


def voyage_answer(request: VoyageRequest, found: Reranked, arrival: Arrival) -> VoyageAnswer:
    """The answer in Voyage's dialect."""
    texts = request.returned_texts()
    data = [
        VoyageResult(
            index=ranked.index,
            relevance_score=to_probability(ranked.score, found.calibrated),
            document=texts[ranked.index] if request.return_documents else None,
        )
        for ranked in found.results
    ]
    return VoyageAnswer(
        data=data,
        model=arrival.answered_model(request.model),
        usage=VoyageUsage(total_tokens=found.tokens_read),
    )


VOYAGE = Dialect(
    name="Voyage, by `top_k`, `truncation` or its models",
    request=VoyageRequest,
    answer=VoyageAnswer,
    to_call=VoyageRequest.to_call,
    to_answer=voyage_answer,
    claims=is_voyage,
    omits_none=True,
)
