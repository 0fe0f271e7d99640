"""`/v2/rerank`, `/v1/rerank`, `/rerank` and `/score`: dialects by path, then by keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.types import Reranked
from tamis.service.engine.errors import EmptyInput
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    service_state,
)
from tamis.service.http.routes.tei import header_schemas, timing_headers
from tamis.service.http.runtime.executor import estimate_tokens, run_while_connected
from tamis.service.http.runtime.methods import can_isolate
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import to_probability
from tamis.service.http.schemas.cohere import CohereAnswer, CohereRequest, cohere_answer
from tamis.service.http.schemas.jina import JinaAnswer, JinaRequest, jina_answer
from tamis.service.http.schemas.score import ScoreAnswer, ScoreRequest, score_answer
from tamis.service.http.schemas.tei import TeiAnswer, TeiRequest, tei_answer
from tamis.service.http.schemas.voyage import VoyageAnswer, VoyageRequest, is_voyage, voyage_answer

routes = create_router()


def body_dialect(given: Any) -> str:
    """The dialect of a request body, by its keys."""
    return "tei" if isinstance(given, dict) and "texts" in given else _v1_dialect(given)


def _v1_dialect(given: Any) -> str:
    return "voyage" if isinstance(given, dict) and is_voyage(given) else "jina"


_Jina = Annotated[JinaRequest, Tag("jina")]
_Voyage = Annotated[VoyageRequest, Tag("voyage")]
_Tei = Annotated[TeiRequest, Tag("tei")]
_V1 = Annotated[_Jina | _Voyage, Discriminator(_v1_dialect), Body()]
_Any = Annotated[_Tei | _Jina | _Voyage, Discriminator(body_dialect), Body()]
_RerankAnswer = TeiAnswer | JinaAnswer | VoyageAnswer
_RERANK_RESPONSES = {
    200: {"headers": header_schemas()},
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
    found = await _rank_documents(
        request, body.query, body.documents, body.top_n, body.model, body.priority
    )
    return json_response(cohere_answer(body, found), exclude_none=True)


@routes.post(
    "/v1/rerank",
    response_model=JinaAnswer | VoyageAnswer,
    responses=error_responses(),
    summary="Rerank, as Jina, Cohere v1, vLLM, infinity and Voyage",
)
async def rerank_v1(body: _V1, request: Request) -> Response:
    """Sorts documents; Voyage's requests have `top_k`, `truncation` or one of its models."""
    return await _rerank_jina_or_voyage(request, body)


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
        return await _rerank_jina_or_voyage(request, body)
    if not body.texts:
        raise EmptyInput("texts is empty; give at least one")
    found = await _rank_documents(request, body.query, body.texts, None, None)
    response = json_response(tei_answer(body, found), exclude_none=True)
    response.headers.update(timing_headers(body, found, service_state(request).settings.device))
    return response


@routes.post(
    "/score",
    response_model=ScoreAnswer,
    responses=error_responses(),
    summary="One score a pair, as vLLM",
)
async def score(body: ScoreRequest, request: Request) -> Response:
    """Scores each pair independently of the other pairs of the call."""
    state = service_state(request)
    questions, texts = body.sides()
    check_limits(state.settings, questions[:1], len(texts), sum(map(len, texts)))
    check_limits(state.settings, questions, 0) if len(questions) > 1 else None
    method = _method_or_default(state, body.model)
    ranker = state.methods.reranker(method, isolated=True)

    def work(_: QueuedRequest) -> list[Reranked]:
        if len(questions) == 1 and can_isolate(method):
            return [ranker.rerank(questions[0], texts)]
        repeated = questions if len(questions) > 1 else questions * len(texts)
        return [ranker.rerank(q, [t]) for q, t in zip(repeated, texts, strict=True)]

    longest = max(questions, key=len)
    tokens = estimate_tokens(longest, texts) if state.uses_proxy(method) else 0
    found = await run_while_connected(
        request.receive, state.executor.run(work, tokens, body.priority)
    )
    scores = [
        to_probability(score, one.calibrated) for one in found for score in _scores_by_document(one)
    ]
    read = sum(one.tokens_read for one in found)
    return json_response(score_answer(scores, read, _answered_model(state, body.model, method)))


routes.add_api_route(
    "/v1/score",
    score,
    methods=["POST"],
    response_model=ScoreAnswer,
    responses=error_responses(),
    summary="As /score",
)


async def _rerank_jina_or_voyage(request: Request, body: JinaRequest | VoyageRequest) -> Response:
    state, texts = service_state(request), body.texts()
    model = _answered_model(state, body.model, _method_or_default(state, body.model))
    if isinstance(body, VoyageRequest):
        found = await _rank_documents(request, body.query, texts, body.top_k, body.model)
        return json_response(voyage_answer(body, found, model, texts), exclude_none=True)
    found = await _rank_documents(
        request, body.query, texts, body.top_n or None, body.model, body.priority
    )
    only_on_request = body.is_infinity or body.is_cohere or _is_cohere_sdk(request)
    return json_response(jina_answer(body, found, model, texts, only_on_request))


def _is_cohere_sdk(request: Request) -> bool:
    """Whether Cohere's SDK sent the request; requests of its version 1 look like Jina's."""
    given = request.headers
    names = (given.get("user-agent", ""), given.get("x-fern-sdk-name", ""))
    return "x-client-name" in given or any(name.lower().startswith("cohere") for name in names)


async def _rank_documents(
    request: Request,
    query: str,
    texts: list[str],
    top_n: int | None,
    model: str | None,
    priority: int = 0,
) -> Reranked:
    """The documents, ranked by the service's method or the one that `model` names."""
    state = service_state(request)
    check_limits(state.settings, [query], len(texts), sum(map(len, texts)))
    method = _method_or_default(state, model)

    def work(queued: QueuedRequest) -> Reranked:
        found = state.methods.reranker(method).rerank(query, texts, top_n=top_n)
        timings = {**found.timings_ms, "queue": queued.queue_ms, "forward": queued.forward_ms}
        state.metrics.observe_stages(timings)
        state.metrics.cached_tokens.inc(found.tokens_cached)
        return replace(found, timings_ms=timings)

    tokens = estimate_tokens(query, texts) if state.uses_proxy(method) else 0
    return await run_while_connected(request.receive, state.executor.run(work, tokens, priority))


def _method_or_default(state: ServiceState, model: str | None) -> str:
    """The method named by `model`, or the default: other clients name models of their own."""
    return model if model in state.methods.names else state.settings.method


def _answered_model(state: ServiceState, named_model: str | None, method: str) -> str:
    """The `model` of an answer: a method that was named, else the proxy that read.

    A method that reads without a proxy is always named itself.
    """
    return (
        method
        if named_model == method or not state.uses_proxy(method)
        else state.methods.reader.card.name
    )


def _scores_by_document(found: Reranked) -> list[float]:
    scores = [0.0] * len(found.passages)
    for ranked in found.results:
        scores[ranked.index] = ranked.score
    return scores
