"""Rerank routes of single vendors: NVIDIA NIM, DeepInfra, Fireworks, and TEI's `/predict`."""

from __future__ import annotations

from time import perf_counter

from fastapi import Request, Response

from tamis.compressors.types import to_probability
from tamis.service.http.routes.base import (
    WARNINGS_RESPONSES,
    create_router,
    error_responses,
    json_response,
)
from tamis.service.http.routes.ranking import model_of_answer, rank_documents, score_pairs
from tamis.service.http.schemas.dialects.jina import JinaRequest
from tamis.service.http.schemas.dialects.nim import NimAnswer, NimRequest, nim_answer
from tamis.service.http.schemas.dialects.tei import PredictRequest, TeiPredictions, predict_answer
from tamis.service.http.schemas.dialects.vendors import (
    DeepinfraAnswer,
    DeepinfraRequest,
    FireworksAnswer,
    deepinfra_answer,
    fireworks_answer,
)

routes = create_router()
_RESPONSES = WARNINGS_RESPONSES | error_responses()
_MODEL_RESPONSES = WARNINGS_RESPONSES | error_responses(404)
"""A model in a path may hold slashes, but no line break: such a path is not found."""


@routes.post(
    "/v1/ranking", response_model=NimAnswer, responses=_RESPONSES, summary="Rerank, as NVIDIA NIM"
)
async def ranking(body: NimRequest, request: Request) -> Response:
    """Sorts passages; scores are logits, so that their sigmoid is the score of other dialects."""
    found = await rank_documents(
        request, body.query.text, body.texts(), body.top_k, body.model, timeout_ms=body.timeout_ms
    )
    return json_response(nim_answer(found), warnings=[*found.warnings, *body.field_warnings()])


@routes.post(
    "/v1/retrieval/{model:path}/reranking",
    response_model=NimAnswer,
    responses=_MODEL_RESPONSES,
    summary="As /v1/ranking, with the model in the path",
)
async def retrieval_reranking(model: str, body: NimRequest, request: Request) -> Response:
    """As `/v1/ranking`; the path names the model where the body does not."""
    named = body if body.model is not None else body.model_copy(update={"model": model})
    return await ranking(named, request)


@routes.post(
    "/inference/v1/rerank",
    response_model=FireworksAnswer,
    responses=_RESPONSES,
    summary="Rerank, as Fireworks",
)
async def fireworks_rerank(body: JinaRequest, request: Request) -> Response:
    """Sorts documents."""
    found = await rank_documents(
        request, body.query, body.texts(), body.top_n or None, body.model, body.priority,
        body.instruction, body.timeout_ms,
    )  # fmt: skip
    answer = fireworks_answer(body, found, model_of_answer(request, body.model))
    return json_response(answer, warnings=[*found.warnings, *body.field_warnings()])


@routes.post(
    "/inference/{model:path}",
    response_model=DeepinfraAnswer,
    responses=_MODEL_RESPONSES,
    summary="As /v1/inference/{model}",
)
@routes.post(
    "/v1/inference/{model:path}",
    response_model=DeepinfraAnswer,
    responses=_MODEL_RESPONSES,
    summary="One score per pair, as DeepInfra",
)
async def deepinfra_inference(model: str, body: DeepinfraRequest, request: Request) -> Response:
    """Scores each document for its query, independently of the others."""
    began = perf_counter()
    queries, texts = body.sides()
    found = await score_pairs(
        request, queries, texts, model, instruction=body.instruction, timeout_ms=body.timeout_ms
    )
    scores = [to_probability(*score) for score in found.scores]
    answer = deepinfra_answer(scores, found.tokens_read, (perf_counter() - began) * 1e3)
    return json_response(answer, warnings=[*found.warnings, *body.field_warnings()])


@routes.post(
    "/predict",
    response_model=TeiPredictions,
    responses=WARNINGS_RESPONSES | error_responses(dialects=("tei",)),
    summary="One score per pair, as TEI",
)
async def predict(body: PredictRequest, request: Request) -> Response:
    """Scores pairs of a query and a text, independently of one another."""
    queries, texts = map(list, zip(*body.pairs(), strict=True))
    same = queries[:1] if len(set(queries)) == 1 else queries
    found = await score_pairs(request, same, texts, None, timeout_ms=body.timeout_ms)
    answer = predict_answer(body, found.scores)
    return json_response(answer, warnings=[*found.warnings, *body.field_warnings()])
