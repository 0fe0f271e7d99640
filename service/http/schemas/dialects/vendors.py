"""Smaller rerank dialects: SGLang, LibreChat's rag_api, DeepInfra and Fireworks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from tamis.compressors.types import Reranked, to_probability
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import (
    LenientCount,
    LenientFlag,
    LenientRequest,
    Question,
    Response,
    Text,
    TimedRequest,
    new_uuid,
)
from tamis.service.http.schemas.dialects.jina import JinaRequest
from tamis.service.http.schemas.dialects.ranked_documents import (
    RankedDocument,
    RankRequest,
    texts_of,
)


class SglangRequest(RankRequest):
    """SGLang's request, told apart by `instruct`, which is an instruction."""

    model: Text | None = None
    instruct: Text | None = None
    top_n: LenientCount | None = None
    return_documents: LenientFlag = True


class SglangRank(Response):
    """The rank of one document."""

    score: float
    document: Text | None
    index: int
    meta_info: dict[str, Any]


class SglangAnswer(RootModel[list[SglangRank]]):
    """Documents, best first."""


def sglang_answer(request: SglangRequest, found: Reranked) -> SglangAnswer:
    """The answer in SGLang's dialect."""
    own = request.returned_texts()
    return SglangAnswer(
        [
            SglangRank(
                score=to_probability(ranked.score, found.calibrated),
                document=own[ranked.index] if request.return_documents else None,
                index=ranked.index,
                meta_info={},
            )
            for ranked in found.results
        ]
    )


class Candidate(LenientRequest):
    """A candidate of LibreChat's rag_api; its `base_score` is that of the first stage."""

    id: Text | int
    text: Text
    base_score: float | None = None


class CandidatesRequest(TimedRequest):
    """LibreChat's rag_api: which candidates answer the query best."""

    query: Question
    candidates: Annotated[list[Candidate], Field(fail_fast=True)]
    profile: Text | None = None
    model: Text | None = None
    top_n: LenientCount | None = None

    def texts(self) -> list[str]:
        """The texts to rank."""
        return [candidate.text for candidate in self.candidates]


class CandidateRank(Response):
    """The rank of one candidate."""

    id: Text | int
    index: int
    score: float


class CandidatesAnswer(Response):
    """Candidates, best first."""

    profile: Text | None
    model: str
    results: list[CandidateRank]


def candidates_answer(request: CandidatesRequest, found: Reranked, model: str) -> CandidatesAnswer:
    """The answer in the dialect of LibreChat's rag_api."""
    return CandidatesAnswer(
        profile=request.profile,
        model=model,
        results=[
            CandidateRank(
                id=request.candidates[ranked.index].id,
                index=ranked.index,
                score=to_probability(ranked.score, found.calibrated),
            )
            for ranked in found.results
        ],
    )


class DeepinfraRequest(TimedRequest):
    """Pairs of a query and a document; one query may be for all documents."""

    queries: Annotated[list[Question], Field(fail_fast=True, min_length=1)]
    documents: Annotated[list[RankedDocument], Field(fail_fast=True, min_length=1)]
    instruction: Text | None = None

    def sides(self) -> tuple[list[str], list[str]]:
        """The queries, and the texts; one query where all are the same.

        Raises:
            BadInput: neither one query nor as many as documents.
        """
        if len(self.queries) not in (1, len(self.documents)):
            raise BadInput(
                f"{len(self.queries)} queries and {len(self.documents)} documents were given; "
                "give one query, or one for each document"
            )
        same = len(set(self.queries)) == 1
        return self.queries[:1] if same else self.queries, texts_of(self.documents)


class DeepinfraStatus(Response):
    """What the request took; there is no cost."""

    status: Literal["succeeded"] = "succeeded"
    runtime_ms: int
    cost: float = 0.0
    tokens_generated: int = 0
    tokens_input: int


class DeepinfraAnswer(Response):
    """One score for each pair, in order."""

    scores: list[float]
    input_tokens: int
    request_id: str
    inference_status: DeepinfraStatus


def deepinfra_answer(scores: Sequence[float], tokens: int, runtime_ms: float) -> DeepinfraAnswer:
    """The answer in DeepInfra's dialect."""
    return DeepinfraAnswer(
        scores=list(scores),
        input_tokens=tokens,
        request_id=new_uuid(),
        inference_status=DeepinfraStatus(runtime_ms=round(runtime_ms), tokens_input=tokens),
    )


class FireworksResult(Response):
    """The rank of one document; `document` is a text, and null where it was not wanted."""

    index: int
    relevance_score: float
    document: Text | None = None


class FireworksUsage(Response):
    """Tokens that were read."""

    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class FireworksAnswer(Response):
    """Documents, best first."""

    object: Literal["list"] = "list"
    model: str
    data: list[FireworksResult]
    usage: FireworksUsage


def fireworks_answer(request: JinaRequest, found: Reranked, model: str) -> FireworksAnswer:
    """The answer in Fireworks' dialect; documents are returned on request."""
    own = request.returned_texts() if request.return_documents else None
    return FireworksAnswer(
        model=model,
        data=[
            FireworksResult(
                index=ranked.index,
                relevance_score=to_probability(ranked.score, found.calibrated),
                document=own[ranked.index] if own else None,
            )
            for ranked in found.results
        ],
        usage=FireworksUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )
