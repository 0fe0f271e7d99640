"""Jina's dialect and those like it, Voyage, SGLang, LibreChat's rag_api, DeepInfra, Fireworks, NIM.

`POST /v1/rerank` and `/rerank` with `documents` are of Jina, Cohere v1, vLLM and infinity, and one
answer serves all of them: each client reads its own fields and ignores the others. Documents are
returned as `{"text": …}`. For infinity, whose requests have `raw_scores` or come to a path of its
own, they are strings, or null where it did not ask for them; for Cohere they are returned only on
request, without the field otherwise.

NIM's texts are objects, and its scores are logits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel, SerializerFunctionWrapHandler, model_serializer

from tamis.compressors.types import Reranked
from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import (
    NOTHING_TRUNCATED,
    READ_WHOLE,
    Language,
    LenientCount,
    LenientFlag,
    LenientNumber,
    LenientRequest,
    NoEffect,
    Priority,
    Question,
    Response,
    Text,
    TimedRequest,
    new_uuid,
    unix_seconds,
)
from tamis.service.http.schemas.dialects.base import (
    Arrival,
    Dialect,
    Pairs,
    RankCall,
    RankedDocument,
    RankRequest,
    ScoreCall,
    document_warnings,
    ranked_scores,
    search_units,
    texts_of,
)
from tamis.text.language import AUTO

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
    own = request.returned_texts() if request.return_documents else None
    return VoyageAnswer(
        data=[
            VoyageResult(index=i, relevance_score=score, document=own[i] if own else None)
            for i, score in ranked_scores(found)
        ],
        model=arrival.answered_model(request.model),
        usage=VoyageUsage(total_tokens=found.tokens_read),
    )


VOYAGE = Dialect(
    name="Voyage, by `top_k`, `truncation` or its models",
    request=VoyageRequest,
    answer=VoyageAnswer,
    to_answer=voyage_answer,
    claims=is_voyage,
    omits_none=True,
)


class SglangRequest(RankRequest):
    """SGLang's request, told apart by `instruct`, which is an instruction."""

    instruct: Text | None = None
    top_n: LenientCount | None = None
    return_documents: LenientFlag = True

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for."""
        return self.rank_call(self.top_n, instruction=self.instruct)


class SglangRank(Response):
    """The rank of one document."""

    score: float
    document: Text | None
    index: int
    meta_info: dict[str, Any]


class SglangAnswer(RootModel[list[SglangRank]]):
    """Documents, best first."""


def sglang_answer(request: SglangRequest, found: Reranked, _: Arrival) -> SglangAnswer:
    """The answer in SGLang's dialect."""
    own = request.returned_texts() if request.return_documents else None
    return SglangAnswer(
        [
            SglangRank(score=score, document=own[i] if own else None, index=i, meta_info={})
            for i, score in ranked_scores(found)
        ]
    )


SGLANG = Dialect(
    name="SGLang",
    request=SglangRequest,
    answer=SglangAnswer,
    to_answer=sglang_answer,
    key="instruct",
)


class Candidate(LenientRequest):
    """A candidate of LibreChat's rag_api; its `base_score` is that of the first stage."""

    id: Text | int
    text: Text
    base_score: Annotated[float | None, NoEffect("the score of a first stage is not mixed in")] = (
        None
    )


class CandidatesRequest(TimedRequest):
    """LibreChat's rag_api: which candidates answer the query best."""

    query: Question
    candidates: Annotated[list[Candidate], Field(fail_fast=True)]
    profile: Annotated[Text | None, NoEffect("it is returned as it came", False)] = None
    model: Text | None = None
    top_n: LenientCount | None = None

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for."""
        texts = [candidate.text for candidate in self.candidates]
        return RankCall(self.query, texts, self.top_n, self.model, timeout_ms=self.timeout_ms)


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


def candidates_answer(
    request: CandidatesRequest, found: Reranked, arrival: Arrival
) -> CandidatesAnswer:
    """The answer in the dialect of LibreChat's rag_api."""
    return CandidatesAnswer(
        profile=request.profile,
        model=arrival.answered_model(request.model),
        results=[
            CandidateRank(id=request.candidates[i].id, index=i, score=score)
            for i, score in ranked_scores(found)
        ],
    )


LIBRECHAT = Dialect(
    name="LibreChat",
    request=CandidatesRequest,
    answer=CandidatesAnswer,
    to_answer=candidates_answer,
    key="candidates",
    claims=lambda body: "documents" not in body,
)


class DeepinfraRequest(TimedRequest):
    """Pairs of a query and a document; one query may be for all documents."""

    queries: Annotated[list[Question], Field(fail_fast=True, min_length=1)]
    documents: Annotated[list[RankedDocument], Field(fail_fast=True, min_length=1)]
    instruction: Text | None = None

    def to_call(self, arrival: Arrival) -> ScoreCall:
        """The pairs; one query where all are the same. The path names the model.

        Raises:
            BadInput: neither one query nor as many as documents.
        """
        if len(self.queries) not in (1, len(self.documents)):
            raise BadInput(
                f"{len(self.queries)} queries and {len(self.documents)} documents were given; "
                "give one query, or one for each document"
            )
        same = len(set(self.queries)) == 1
        return ScoreCall(
            self.queries[:1] if same else self.queries,
            texts_of(self.documents),
            arrival.path_model,
            instruction=self.instruction,
            timeout_ms=self.timeout_ms,
        )

    def field_warnings(self) -> list[str]:
        """Warnings for ignored request fields and ignored document fields."""
        return [*super().field_warnings(), *document_warnings(self.documents)]


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


def deepinfra_answer(_: DeepinfraRequest, found: Pairs, arrival: Arrival) -> DeepinfraAnswer:
    """The answer in DeepInfra's dialect."""
    return DeepinfraAnswer(
        scores=found.probabilities(),
        input_tokens=found.tokens_read,
        request_id=new_uuid(),
        inference_status=DeepinfraStatus(
            runtime_ms=round(arrival.elapsed_ms()), tokens_input=found.tokens_read
        ),
    )


DEEPINFRA = Dialect(
    name="DeepInfra", request=DeepinfraRequest, answer=DeepinfraAnswer, to_answer=deepinfra_answer
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


def fireworks_answer(request: JinaRequest, found: Reranked, arrival: Arrival) -> FireworksAnswer:
    """The answer in Fireworks' dialect; documents are returned on request."""
    own = request.returned_texts() if request.return_documents else None
    return FireworksAnswer(
        model=arrival.answered_model(request.model),
        data=[
            FireworksResult(index=i, relevance_score=score, document=own[i] if own else None)
            for i, score in ranked_scores(found)
        ],
        usage=FireworksUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )


FIREWORKS = Dialect(
    name="Fireworks", request=JinaRequest, answer=FireworksAnswer, to_answer=fireworks_answer
)


class NimQuery(LenientRequest):
    """The query."""

    text: Question


class NimRequest(TimedRequest):
    """Which passages answer the query best. Passages are read whole, so nothing is truncated."""

    model: Text | None = None
    query: NimQuery
    passages: Annotated[list[RankedDocument], Field(fail_fast=True)]
    truncate: Annotated[Literal["NONE", "END", "START"] | None, NOTHING_TRUNCATED] = None
    top_k: LenientCount | None = None

    def to_call(self, arrival: Arrival) -> RankCall:
        """The ranking that is asked for; the path names the model where the body does not."""
        model = arrival.path_model if self.model is None else self.model
        texts = texts_of(self.passages)
        return RankCall(self.query.text, texts, self.top_k, model, timeout_ms=self.timeout_ms)

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


def nim_answer(_: NimRequest, found: Reranked, __: Arrival) -> NimAnswer:
    """The answer in NIM's dialect."""
    return NimAnswer(
        rankings=[NimRanking(index=i, logit=score) for i, score in ranked_scores(found, raw=True)],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )


NIM = Dialect(name="NVIDIA NIM", request=NimRequest, answer=NimAnswer, to_answer=nim_answer)


_NAME_PAIRS = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)
OneOrMoreQuestions = Question | Annotated[list[Question], Field(fail_fast=True, min_length=1)]
OneOrMoreTexts = Text | Annotated[list[Text], Field(fail_fast=True, min_length=1)]


class ScoreRequest(TimedRequest):
    """One question with many texts, or as many questions as texts."""

    model: Text | None = None
    text_1: OneOrMoreQuestions | None = None
    text_2: OneOrMoreTexts | None = None
    queries: OneOrMoreQuestions | None = None
    documents: OneOrMoreTexts | None = None
    items: OneOrMoreTexts | None = None
    data_1: OneOrMoreQuestions | None = None
    data_2: OneOrMoreTexts | None = None
    instruction: Text | None = None
    language: Language = AUTO
    priority: Priority = 0

    def to_call(self, _: Arrival) -> ScoreCall:
        """The questions with their texts.

        Raises:
            BadInput: none or several of the four pairs of names, or sides whose lengths differ.
        """
        given = [
            pair for pair in _NAME_PAIRS if all(getattr(self, name) is not None for name in pair)
        ]
        if len(given) != 1:
            raise BadInput(
                "give one pair of text_1 and text_2, queries and documents, queries and items, "
                f"data_1 and data_2; {len(given)} were given"
            )
        others = {name for pair in _NAME_PAIRS for name in pair} - set(given[0])
        if unread := sorted(name for name in others if getattr(self, name) is not None):
            raise BadInput(
                f"{' and '.join(given[0])} are read, and {', '.join(unread)} would not be; "
                "leave it out"
            )
        left, right = (_as_list(getattr(self, name)) for name in given[0])
        if len(left) not in (1, len(right)):
            raise BadInput(
                f"{given[0][0]} has {len(left)} entries and {given[0][1]} {len(right)}; "
                "give one question, or one for each text"
            )
        own = (self.model, self.priority, self.instruction, self.timeout_ms, self.language)
        return ScoreCall(left, right, *own)


class ScoreItem(Response):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreAnswer(Response):
    """One score for each pair, in order."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreItem]
    usage: JinaUsage


def score_answer(request: ScoreRequest, found: Pairs, arrival: Arrival) -> ScoreAnswer:
    """The answer in vLLM's dialect; scores in [0, 1]."""
    return ScoreAnswer(
        id=f"score-{new_uuid()}",
        created=unix_seconds(),
        model=arrival.answered_model(request.model),
        data=[ScoreItem(index=i, score=score) for i, score in enumerate(found.probabilities())],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )


def _as_list(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


VLLM_SCORE = Dialect(name="vLLM", request=ScoreRequest, answer=ScoreAnswer, to_answer=score_answer)
