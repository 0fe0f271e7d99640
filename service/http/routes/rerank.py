"""`/v2/rerank`, `/v1/rerank`, `/rerank` and `/score`: dialects by path, then by keys."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.types import to_probability
from tamis.probes.segmentation.language import AUTO
from tamis.service.engine.errors import EmptyInput
from tamis.service.http.routes import vendors
from tamis.service.http.routes.base import (
    WARNINGS_HEADERS,
    WARNINGS_RESPONSES,
    create_router,
    error_responses,
    json_response,
    service_state,
)
from tamis.service.http.routes.ranking import model_of_answer, rank_documents, score_pairs
from tamis.service.http.routes.tei import header_schemas, timing_headers
from tamis.service.http.schemas.dialects.cohere import CohereAnswer, CohereRequest, cohere_answer
from tamis.service.http.schemas.dialects.jina import JinaAnswer, JinaRequest, jina_answer
from tamis.service.http.schemas.dialects.score import ScoreAnswer, ScoreRequest, score_answer
from tamis.service.http.schemas.dialects.tei import TeiAnswer, TeiRequest, tei_answer
from tamis.service.http.schemas.dialects.vendors import (
    CandidatesAnswer,
    CandidatesRequest,
    SglangAnswer,
    SglangRequest,
    candidates_answer,
    sglang_answer,
)
from tamis.service.http.schemas.dialects.voyage import (
    VoyageAnswer,
    VoyageRequest,
    is_voyage,
    voyage_answer,
)

routes = create_router()
routes.include_router(vendors.routes)
_INFINITY, _DASHSCOPE = "/infinity/", "/reranks"
"""Where these clients come, whose requests look like vLLM's."""


def body_dialect(given: Any) -> str:
    """The dialect of a request body, by its keys."""
    return "tei" if isinstance(given, dict) and "texts" in given else _v1_dialect(given)


def _v1_dialect(given: Any) -> str:
    keys = given if isinstance(given, dict) else {}
    if "candidates" in keys and "documents" not in keys:
        return "librechat"
    if "instruct" in keys:
        return "sglang"
    return "voyage" if is_voyage(keys) else "jina"


_Jina = Annotated[JinaRequest, Tag("jina")]
_Voyage = Annotated[VoyageRequest, Tag("voyage")]
_Sglang = Annotated[SglangRequest, Tag("sglang")]
_Candidates = Annotated[CandidatesRequest, Tag("librechat")]
_Tei = Annotated[TeiRequest, Tag("tei")]
_V1 = Annotated[_Jina | _Voyage | _Sglang | _Candidates, Discriminator(_v1_dialect), Body()]
_Any = Annotated[
    _Tei | _Jina | _Voyage | _Sglang | _Candidates, Discriminator(body_dialect), Body()
]
_V1Request = JinaRequest | VoyageRequest | SglangRequest | CandidatesRequest
_V1Answer = JinaAnswer | VoyageAnswer | SglangAnswer | CandidatesAnswer
_RerankAnswer = TeiAnswer | _V1Answer
_V1_RESPONSES = WARNINGS_RESPONSES | error_responses()
_RERANK_RESPONSES = {
    200: {"headers": header_schemas() | WARNINGS_HEADERS},
    **error_responses(dialects=("openai", "tei")),
}


@routes.post(
    "/v2/rerank",
    response_model=CohereAnswer,
    responses=error_responses(dialects=("cohere",)),
    summary="Rerank, as Cohere v2; with relevant_spans",
)
async def rerank_v2(body: CohereRequest, request: Request) -> Response:
    """Sorts documents; with `relevant_spans`, says which parts of each answer."""
    found = await rank_documents(
        request, body.query, body.texts(), body.top_n, body.model, body.priority,
        body.instruction, body.timeout_ms, body.wants_spans, body.language,
    )  # fmt: skip
    return json_response(cohere_answer(body, found), exclude_none=True)


@routes.post(
    "/v1/rerank",
    response_model=_V1Answer,
    responses=_V1_RESPONSES,
    summary="Rerank, as Jina, Cohere v1, vLLM, SGLang, infinity, Voyage and LibreChat",
)
async def rerank_v1(body: _V1, request: Request) -> Response:
    """Sorts documents; Voyage's requests have `top_k`, `truncation` or one of its models."""
    return await _rerank_v1(request, body)


for path, whose in (
    ("/v1/reranking", "llama.cpp"),
    ("/v1/reranks", "DashScope"),
    ("/reranks", "DashScope"),
    ("/compatible-api/v1/reranks", "DashScope"),
    ("/infinity/rerank", "infinity"),
    ("/infinity/v1/rerank", "infinity"),
):
    routes.add_api_route(
        path,
        rerank_v1,
        methods=["POST"],
        response_model=_V1Answer,
        responses=_V1_RESPONSES,
        summary=f"As /v1/rerank, for clients of {whose}",
    )


@routes.post(
    "/rerank",
    response_model=_RerankAnswer,
    responses=_RERANK_RESPONSES,
    summary="Rerank, as TEI, and as /v1/rerank",
)
@routes.post(
    "/reranking",
    response_model=_RerankAnswer,
    responses=_RERANK_RESPONSES,
    summary="As /rerank, as llama.cpp calls it",
)
async def rerank(body: _Any, request: Request) -> Response:
    """Sorts documents; TEI's requests have `texts`, and its answer is a bare list."""
    if not isinstance(body, TeiRequest):
        return await _rerank_v1(request, body)
    if not body.texts:
        raise EmptyInput("texts is empty; give at least one")
    found = await rank_documents(
        request, body.query, body.ranked_texts(), body.top_n, None,
        instruction=body.instruction, timeout_ms=body.timeout_ms,
    )  # fmt: skip
    warnings = [*found.warnings, *body.field_warnings()]
    response = json_response(tei_answer(body, found), exclude_none=True, warnings=warnings)
    response.headers.update(timing_headers(body, found, service_state(request).settings.device))
    return response


@routes.post(
    "/score",
    response_model=ScoreAnswer,
    responses=_V1_RESPONSES,
    summary="One score per pair, as vLLM",
)
async def score(body: ScoreRequest, request: Request) -> Response:
    """Scores each pair independently of the other pairs of the call."""
    questions, texts = body.sides()
    found = await score_pairs(
        request, questions, texts, body.model, body.priority, body.instruction, body.timeout_ms,
        body.language,
    )  # fmt: skip
    scores = [to_probability(*score) for score in found.scores]
    answer = score_answer(scores, found.tokens_read, found.model)
    return json_response(answer, warnings=[*found.warnings, *body.field_warnings()])


routes.add_api_route(
    "/v1/score",
    score,
    methods=["POST"],
    response_model=ScoreAnswer,
    responses=_V1_RESPONSES,
    summary="As /score",
)


async def _rerank_v1(request: Request, body: _V1Request) -> Response:
    model = model_of_answer(request, body.model)
    if isinstance(body, JinaRequest):
        return await _rerank_jina(request, body, model)
    instruction, language = None, AUTO
    top_n = body.top_k if isinstance(body, VoyageRequest) else body.top_n
    if not isinstance(body, CandidatesRequest):
        instruction = body.instruct if isinstance(body, SglangRequest) else body.instruction
        language = body.language
    found = await rank_documents(
        request, body.query, body.texts(), top_n, body.model,
        instruction=instruction, timeout_ms=body.timeout_ms, language=language,
    )  # fmt: skip
    warnings = [*found.warnings, *body.field_warnings()]
    if isinstance(body, VoyageRequest):
        answer = voyage_answer(body, found, model)
        return json_response(answer, exclude_none=True, warnings=warnings)
    if isinstance(body, SglangRequest):
        return json_response(sglang_answer(body, found), warnings=warnings)
    return json_response(candidates_answer(body, found, model), warnings=warnings)


async def _rerank_jina(request: Request, body: JinaRequest, model: str) -> Response:
    found = await rank_documents(
        request, body.query, body.texts(), body.top_n or None, body.model, body.priority,
        body.instruction, body.timeout_ms, language=body.language,
    )  # fmt: skip
    path: str = request.scope["path"]
    infinity = body.is_infinity or path.startswith(_INFINITY)
    on_request = infinity or body.is_cohere or path.endswith(_DASHSCOPE) or _is_cohere_sdk(request)
    return json_response(jina_answer(body, found, model, on_request, infinity))


def _is_cohere_sdk(request: Request) -> bool:
    """Whether Cohere's SDK sent the request; requests of its version 1 look like Jina's."""
    given = request.headers
    names = (given.get("user-agent", ""), given.get("x-fern-sdk-name", ""))
    return "x-client-name" in given or any(name.lower().startswith("cohere") for name in names)
