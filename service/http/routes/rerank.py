"""`/v2/rerank`, `/v1/rerank`, `/rerank` and `/score`: told apart by path, then by keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.types import Reranked
from tamis.service.engine.errors import Empty
from tamis.service.engine.request import Ticket
from tamis.service.http.routes.base import answer, answers, check, house_of, router
from tamis.service.http.routes.tei import described_headers, headers
from tamis.service.http.runtime.executor import attended, guessed_tokens
from tamis.service.http.runtime.methods import isolates
from tamis.service.http.runtime.state import House
from tamis.service.http.schemas.base import probability
from tamis.service.http.schemas.cohere import CohereAnswer, CohereRequest, cohere_answer
from tamis.service.http.schemas.jina import JinaAnswer, JinaRequest, jina_answer
from tamis.service.http.schemas.score import ScoreAnswer, ScoreRequest, score_answer
from tamis.service.http.schemas.tei import TeiAnswer, TeiRequest, tei_answer
from tamis.service.http.schemas.voyage import VoyageAnswer, VoyageRequest, is_voyage, voyage_answer

routes = router()


def dialect(given: Any) -> str:
    """Whose request a body is, by its keys."""
    return "tei" if isinstance(given, dict) and "texts" in given else _of_v1(given)


def _of_v1(given: Any) -> str:
    return "voyage" if isinstance(given, dict) and is_voyage(given) else "jina"


_Jina = Annotated[JinaRequest, Tag("jina")]
_Voyage = Annotated[VoyageRequest, Tag("voyage")]
_Tei = Annotated[TeiRequest, Tag("tei")]
_V1 = Annotated[_Jina | _Voyage, Discriminator(_of_v1), Body()]
_Any = Annotated[_Tei | _Jina | _Voyage, Discriminator(dialect), Body()]
_Told = TeiAnswer | JinaAnswer | VoyageAnswer
_TOLD = {200: {"headers": described_headers()}, **answers(dialects=("openai", "tei"))}


@routes.post(
    "/v2/rerank",
    response_model=CohereAnswer,
    responses=answers(dialects=("cohere",)),
    summary="Rerank, as Cohere v2; with relevant_spans",
)
async def rerank_v2(body: CohereRequest, request: Request) -> Response:
    """Sorts documents; with `relevant_spans`, says which parts of each answer."""
    found = await _ranked(
        request, body.query, body.documents, body.top_n, body.model, body.priority
    )
    return answer(cohere_answer(body, found), exclude_none=True)


@routes.post(
    "/v1/rerank",
    response_model=JinaAnswer | VoyageAnswer,
    responses=answers(),
    summary="Rerank, as Jina, Cohere v1, vLLM, infinity and Voyage",
)
async def rerank_v1(body: _V1, request: Request) -> Response:
    """Sorts documents; Voyage's requests have `top_k`, `truncation` or one of its models."""
    return await _answered(request, body)


@routes.post(
    "/rerank",
    response_model=_Told,
    responses=_TOLD,
    summary="Rerank, as TEI, and as /v1/rerank",
)
@routes.post(
    "/reranking",
    response_model=_Told,
    responses=_TOLD,
    summary="As /rerank, as llama.cpp calls it",
)
async def rerank(body: _Any, request: Request) -> Response:
    """Sorts documents; TEI's requests have `texts`, and its answer is a bare list."""
    if not isinstance(body, TeiRequest):
        return await _answered(request, body)
    if not body.texts:
        raise Empty("texts is empty; give at least one")
    found = await _ranked(request, body.query, body.texts, None, None)
    told = answer(tei_answer(body, found), exclude_none=True)
    told.headers.update(headers(body, found, house_of(request).settings.device))
    return told


@routes.post(
    "/score",
    response_model=ScoreAnswer,
    responses=answers(),
    summary="One score a pair, as vLLM",
)
async def score(body: ScoreRequest, request: Request) -> Response:
    """Scores each pair on its own: no other pair of the call moves it."""
    house = house_of(request)
    questions, texts = body.sides()
    check(house.settings, questions[:1], len(texts), sum(map(len, texts)))
    check(house.settings, questions, 0) if len(questions) > 1 else None
    method = _method(house, body.model)
    ranker = house.serving.reranker(method, isolated=True)

    def work(_: Ticket) -> list[Reranked]:
        if len(questions) == 1 and isolates(method):
            return [ranker.rerank(questions[0], texts)]
        asked = questions if len(questions) > 1 else questions * len(texts)
        return [ranker.rerank(q, [t]) for q, t in zip(asked, texts, strict=True)]

    longest = max(questions, key=len)
    tokens = guessed_tokens(longest, texts) if house.reads(method) else 0
    found = await attended(request.receive, house.desk.run(work, tokens, body.priority))
    scores = [probability(score, one.calibrated) for one in found for score in _own(one)]
    read = sum(one.tokens_read for one in found)
    return answer(score_answer(scores, read, _named(house, body.model, method)))


routes.add_api_route(
    "/v1/score",
    score,
    methods=["POST"],
    response_model=ScoreAnswer,
    responses=answers(),
    summary="As /score",
)


async def _answered(request: Request, body: JinaRequest | VoyageRequest) -> Response:
    house, texts = house_of(request), body.texts()
    model = _named(house, body.model, _method(house, body.model))
    if isinstance(body, VoyageRequest):
        found = await _ranked(request, body.query, texts, body.top_k, body.model)
        return answer(voyage_answer(body, found, model, texts), exclude_none=True)
    found = await _ranked(request, body.query, texts, body.top_n or None, body.model, body.priority)
    quiet = body.of_infinity or body.of_cohere or _from_cohere(request)
    return answer(jina_answer(body, found, model, texts, quiet))


def _from_cohere(request: Request) -> bool:
    """Whether Cohere's SDK sent it: what its version 1 sends looks like Jina's."""
    given = request.headers
    names = (given.get("user-agent", ""), given.get("x-fern-sdk-name", ""))
    return "x-client-name" in given or any(name.lower().startswith("cohere") for name in names)


async def _ranked(
    request: Request,
    query: str,
    texts: list[str],
    top_n: int | None,
    model: str | None,
    priority: int = 0,
) -> Reranked:
    """The documents, ranked by the service's method or the one that `model` names."""
    house = house_of(request)
    check(house.settings, [query], len(texts), sum(map(len, texts)))
    method = _method(house, model)

    def work(ticket: Ticket) -> Reranked:
        found = house.serving.reranker(method).rerank(query, texts, top_n=top_n)
        timings = {**found.timings_ms, "queue": ticket.queue_ms, "forward": ticket.forward_ms}
        house.metrics.stages(timings)
        house.metrics.cached_tokens.inc(found.tokens_cached)
        return replace(found, timings_ms=timings)

    tokens = guessed_tokens(query, texts) if house.reads(method) else 0
    return await attended(request.receive, house.desk.run(work, tokens, priority))


def _method(house: House, model: str | None) -> str:
    """Clients of other services name other models; theirs is served by the default."""
    return model if model in house.serving.methods else house.settings.method


def _named(house: House, asked: str | None, method: str) -> str:
    """What an answer calls its model: a method that was asked for, else the proxy that read.

    A method that reads with no proxy goes by its own name.
    """
    return method if asked == method or not house.reads(method) else house.serving.reader.card.name


def _own(found: Reranked) -> list[float]:
    scores = [0.0] * len(found.passages)
    for ranked in found.results:
        scores[ranked.index] = ranked.score
    return scores
