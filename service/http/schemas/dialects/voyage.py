"""`POST /v1/rerank` with `top_k`, `truncation` or one of Voyage's models (`RerankingObject`)."""

from __future__ import annotations

import re
from typing import Any, Literal

from tamis.compressors.types import Reranked, to_probability
from tamis.service.http.schemas.base import (
    LenientCount,
    LenientFlag,
    Response,
    Text,
)
from tamis.service.http.schemas.dialects.ranked_documents import RankRequest

VOYAGE_KEYS = ("top_k", "truncation")
VOYAGE_MODELS = re.compile(r"rerank-(?:lite-)?\d")
"""Matches the beginning of the names of Voyage's models; Cohere's have a word or a v there."""
_OTHER_DIALECT_KEYS = ("top_n", "raw_scores", "rank_fields", "max_chunks_per_doc")


def is_voyage(body: dict[str, Any]) -> bool:
    """Whether a body is of Voyage's clients; by its model only if no field speaks against it."""
    if any(key in body for key in VOYAGE_KEYS):
        return True
    model = body.get("model")
    named = isinstance(model, str) and VOYAGE_MODELS.match(model) is not None
    return named and not any(key in body for key in _OTHER_DIALECT_KEYS)


class VoyageRequest(RankRequest):
    """Which documents answer the query best. Documents are read whole, so nothing is truncated."""

    model: Text | None = None
    top_k: LenientCount | None = None
    return_documents: LenientFlag | None = None
    truncation: LenientFlag | None = None
    instruction: Text | None = None


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


def voyage_answer(request: VoyageRequest, found: Reranked, model: str) -> VoyageAnswer:
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
    return VoyageAnswer(data=data, model=model, usage=VoyageUsage(total_tokens=found.tokens_read))
