"""`POST /v1/ranking`: NVIDIA NIM's rerankers. Texts are objects, and scores are logits."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tamis.compressors.types import Reranked
from tamis.service.http.schemas.base import (
    LenientCount,
    LenientRequest,
    Question,
    Response,
    Text,
    TimedRequest,
)
from tamis.service.http.schemas.dialects.jina import JinaUsage
from tamis.service.http.schemas.dialects.ranked_documents import (
    RankedDocument,
    document_warnings,
    texts_of,
)
from tamis.service.http.schemas.dialects.tei import score_of


class NimQuery(LenientRequest):
    """The query."""

    text: Question


class NimRequest(TimedRequest):
    """Which passages answer the query best. Passages are read whole, so nothing is truncated."""

    model: Text | None = None
    query: NimQuery
    passages: Annotated[list[RankedDocument], Field(fail_fast=True)]
    truncate: Literal["NONE", "END", "START"] | None = None
    top_k: LenientCount | None = None

    def texts(self) -> list[str]:
        """The texts to rank."""
        return texts_of(self.passages)

    def field_warnings(self) -> list[str]:
        """Warnings for ignored request fields and ignored document fields."""
        return [*super().field_warnings(), *document_warnings(self.passages)]


class NimRanking(Response):
    """The rank of one passage."""

    index: int
    logit: float


class NimAnswer(Response):
    """Passages, best first."""

    rankings: list[NimRanking]
    usage: JinaUsage


def nim_answer(found: Reranked) -> NimAnswer:
    """The answer in NIM's dialect."""
    return NimAnswer(
        rankings=[
            NimRanking(index=ranked.index, logit=score_of(ranked.score, found.calibrated, True))
            for ranked in found.results
        ],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )
