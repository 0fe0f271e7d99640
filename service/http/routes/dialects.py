"""The paths of the table of dialects: each request becomes a call of ours, which is served here.

An answer may come from the result cache.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.method import reading_everything
from tamis.compressors.pipeline.reranking import PreparedRanking, Reranker, prepare_ranking
from tamis.compressors.registry import method_info
from tamis.compressors.types import Reranked, to_probability
from tamis.probes.named_tokenizers import approximation_warning
from tamis.service.api.spans import ranking_attributes, set_attributes
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest, UnderDeadline
from tamis.service.http.conversation.job import ConversationCall, PreparedConversation, whole_answer
from tamis.service.http.routes.base import (
    PASSTHROUGH_HEADERS,
    WARNINGS_HEADERS,
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    note_passthrough,
    request_span,
    service_state,
)
from tamis.service.http.routes.compress import compress_all
from tamis.service.http.runtime.errors import message_of
from tamis.service.http.runtime.executor import estimate_tokens, run_while_connected
from tamis.service.http.runtime.methods import can_isolate
from tamis.service.http.runtime.result_cache import KeptResult
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import WARNINGS_HEADER
from tamis.service.http.schemas.dialects.base import (
    IN_HEADER,
    Arrival,
    CompressCall,
    Dialect,
    Pairs,
    RankCall,
    ScoreCall,
)
from tamis.service.http.schemas.dialects.table import ENDPOINTS, Endpoint
from tamis.service.http.schemas.json import MEDIA_TYPE
from tamis.service.http.schemas.messages import MessagesAnswer, MessagesRequest
from tamis.text.inputs import question_text
from tamis.text.language import resolve_language


async def compress_messages(request: Request, body: MessagesRequest) -> MessagesAnswer:
    """The same messages, with what tools returned in fewer tokens.

    Raises:
        BadInput: fields that a conversation cannot be served with. UnknownMethod: `method` is none.
    """
    state, entry = service_state(request), log_entry(request)
    body.check_served()
    method = state.methods.resolve_method(state.methods.known_model(body.model), body.method)
    call = ConversationCall(state, body, method, entry)
    with request_span(state, "compress", body.model) as span:
        try:
            limits = state.executor.limits(body.timeout_ms)
            running = state.executor.run_prepared(
                partial(_prepare, call), call.tokens_needed, call.finish, body.priority, limits
            )
            answer = await run_while_connected(request.receive, running)
        except Exception as error:
            note_passthrough(state, entry, error, body.on_error)
            why = message_of(error)
            answer = await asyncio.to_thread(lambda: whole_answer(call.read(), why))
        if span is not None:
            set_attributes(span, _conversation_attributes(answer))
    before = sum(one.tokens_before for one in answer.compressions)
    after = before if body.shadow else sum(one.tokens_after for one in answer.compressions)
    state.metrics.count_compression(before, after, entry.key)
    entry.tokens_in, entry.tokens_out = answer.tokens_before, answer.tokens_after
    return answer


def _conversation_attributes(answer: MessagesAnswer) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": answer.tokens_before,
        "gen_ai.usage.output_tokens": answer.tokens_after,
        "tamis.messages": len(answer.messages),
        "tamis.method": answer.method,
        "tamis.status": answer.status,
    }


def _prepare(call: ConversationCall) -> PreparedConversation:
    conversation = call.read()
    texts = [text for candidate in conversation.candidates for text in candidate.passages]
    questions = [conversation.question or ""]
    check_limits(call.state.settings, questions, len(texts), sum(map(len, texts)))
    prepared = call.prepare(conversation)
    if prepared.counter.approximates:
        prepared.warn(approximation_warning(prepared.counter))
    return prepared


CACHE_HEADER = "X-Tamis-Result-Cache"
CACHE_HEADERS: dict[str, Any] = {
    CACHE_HEADER: {
        "description": "Whether the answer was kept from an earlier, same request; only where the "
        "service has a result cache.",
        "schema": {"type": "string", "enum": ["hit", "miss"]},
    }
}


async def answer_from_cache(request: Request, make: Callable[[], Awaitable[Response]]) -> Response:
    """The kept answer to the same request, or the one that `make` makes, which is then kept.

    An answer that another time would have been better is not kept, in whatever shape it was sent:
    one made of what was read by a deadline, or documents returned whole in place of an error.
    """
    state, entry = service_state(request), log_entry(request)
    find_key = partial(state.results.key_of, entry.key, await request.body())
    key = await state.executor.run_off_loop(find_key)
    if (kept := state.results.find(key)) is not None:
        entry.tokens_in, entry.tokens_out = kept.tokens_in, kept.tokens_out
        state.metrics.count_compression(kept.tokens_in, kept.tokens_out, entry.key)
        return Response(
            kept.body, media_type=MEDIA_TYPE, headers=dict([*kept.headers, (CACHE_HEADER, "hit")])
        )
    answer = await make()
    answer.headers[CACHE_HEADER] = "miss"
    if not entry.passthrough_codes and not entry.is_partial:
        body = bytes(answer.body)
        headers = tuple((n, answer.headers[n]) for n in (WARNINGS_HEADER,) if n in answer.headers)
        tokens = (entry.tokens_in or 0, entry.tokens_out or 0)
        state.results.keep(key, KeptResult(body, headers, *tokens))
    return answer


def add_endpoint(router: APIRouter, endpoint: Endpoint) -> None:
    """Adds the paths of an endpoint, with what the OpenAPI document says about them."""

    async def serve(body: Any, request: Request) -> Response:
        dialect = dialects[type(body)]
        make = partial(_answer, dialect, body, request)
        has_cache = service_state(request).results.max_bytes
        if has_cache and dialect.keeps is not None and dialect.keeps(body):
            return await answer_from_cache(request, make)
        return await make()

    async def serve_model(model: str, body: Any, request: Request) -> Response:
        return await serve(body, request)  # which reads the model from the path

    rows = endpoint.dialects
    dialects = {row.request: row for row in rows}
    formats = list(dict.fromkeys(row.errors for row in rows))
    headers = {name: schema for row in rows for name, schema in _header_schemas(row).items()}
    responses: dict[int | str, Any] = {200: {"headers": headers}} if headers else {}
    for path, summary in endpoint.paths.items():
        handler: Any = serve_model if "{model" in path else serve
        handler.__annotations__["body"] = _body_type(endpoint)
        router.add_api_route(
            path,
            handler,
            name=endpoint.name,
            methods=["POST"],
            response_model=reduce(or_, (row.answer for row in rows)),
            responses=responses | error_responses(*endpoint.statuses, formats=formats),
            summary=summary,
            description=endpoint.description,
        )


def _body_type(endpoint: Endpoint) -> Any:
    """The requests of all dialects of an endpoint, told apart by their keys."""
    if len(endpoint.dialects) == 1:
        return endpoint.dialects[0].request
    tagged: Any = (Annotated[row.request, Tag(row.name)] for row in endpoint.dialects)
    names = {row.request: row.name for row in endpoint.dialects}  # of a body that was read before
    by_keys = Discriminator(lambda body: names.get(type(body)) or endpoint.dialect_of(body).name)
    return Annotated[reduce(or_, tagged), by_keys, Body()]


def _header_schemas(dialect: Dialect) -> dict[str, Any]:
    """The headers of an answer for the OpenAPI document."""
    return {
        **dialect.headers,
        **(WARNINGS_HEADERS if dialect.warnings == IN_HEADER else {}),
        **(PASSTHROUGH_HEADERS | CACHE_HEADERS if dialect.keeps else {}),
    }


async def _answer(dialect: Dialect, body: Any, request: Request) -> Response:
    """The answer to a request, in its dialect."""
    began, state = perf_counter(), service_state(request)
    arrival = Arrival(
        request.scope["path"],
        request.path_params.get("model"),
        request.headers,
        state.settings.device,
        partial(_answered_model, state),
        lambda: (perf_counter() - began) * 1e3,
    )
    call = await state.executor.run_off_loop(partial(dialect.to_call, body, arrival))
    found: Any = await _SERVED_BY[type(call)](request, call)
    write = partial(_write, dialect, body, found, arrival)
    # an answer that may be kept has the text of documents, and takes its time to write
    if dialect.keeps is not None:
        return await asyncio.to_thread(write)
    return await state.executor.run_off_loop(write)


def _write(dialect: Dialect, body: Any, found: Any, arrival: Arrival) -> Response:
    answer = dialect.to_answer(body, found, arrival)
    warnings: list[str] = []
    if dialect.warnings == IN_HEADER:
        parts = found if isinstance(found, list) else [found]
        warnings = [*(w for part in parts for w in part.warnings), *body.field_warnings()]
        warnings = list(dict.fromkeys(warnings))
    response = json_response(answer, dialect.omits_none, warnings)
    if dialect.to_headers is not None:
        response.headers.update(dialect.to_headers(body, found, arrival))
    return response


async def rank_documents(request: Request, call: RankCall) -> Reranked:
    """The documents of a call, ranked.

    After `timeout_ms` documents that were not read are ranked by their words, which `warnings`
    says.

    Raises:
        OutOfTime: nothing was read in time, and there are no spans without.
    """
    state, entry = service_state(request), log_entry(request)
    question, texts = question_text(call.question, call.instruction), call.texts
    check_limits(state.settings, [question], len(texts), sum(map(len, texts)))
    method = _method_or_default(state, call.model)

    def prepare() -> PreparedRanking:
        # an instruction may be in another language than what is asked and read
        language = resolve_language(call.language, call.question, texts)
        return prepare_ranking(
            question, texts, top_n=call.top_n, min_score=call.min_score, language=language
        )

    def tokens(_: PreparedRanking) -> int:
        return estimate_tokens(question, texts) if method_info(method).needs_proxy else 0

    def work(prepared: PreparedRanking, queued: QueuedRequest) -> Reranked:
        scorer = state.methods.scorer(method)
        # spans are chosen by probabilities, which were calibrated on whole readings
        ranker = UnderDeadline(reading_everything(scorer) if call.with_spans else scorer)
        reranker = Reranker(ranker, method)
        ranks = reranker.rank(prepared)
        if ranks.passages_read is not None:
            entry.count_partial(state.metrics)
        if call.with_spans and ranks.passages_read == 0:
            raise OutOfTime("no document was read within timeout_ms, and spans need that")
        if call.min_score is not None and ranks.passages_read is not None:
            raise OutOfTime(
                f"{ranks.passages_read} documents were read within timeout_ms, and min_score needs "
                "all"
            )
        found = reranker.sort(prepared, ranks)
        timings = {**found.timings_ms, "queue": queued.queue_ms, "forward": queued.forward_ms}
        state.metrics.observe_stages(timings)
        state.metrics.cached_tokens.inc(found.tokens_cached)
        return replace(found, timings_ms=timings)

    limits = state.executor.limits(call.timeout_ms)
    with request_span(state, "rerank", call.model) as span:
        running = state.executor.run_prepared(prepare, tokens, work, call.priority, limits)
        found = await run_while_connected(request.receive, running)
        if span is not None:
            set_attributes(span, _span_attributes(state, found, call.top_n))
    return found


async def score_pairs(request: Request, call: ScoreCall) -> Pairs:
    """A score for each pair of a call.

    Raises:
        OutOfTime: not every pair was read within `timeout_ms`.
    """
    state = service_state(request)
    texts = call.texts
    questions = [question_text(asked, call.instruction) for asked in call.questions]
    check_limits(state.settings, questions[:1], len(texts), sum(map(len, texts)))
    check_limits(state.settings, questions, 0) if len(questions) > 1 else None
    method = _method_or_default(state, call.model)

    def prepare() -> list[PreparedRanking]:
        if len(questions) == 1 and can_isolate(method):
            language = resolve_language(call.language, call.questions[0], texts)
            return [prepare_ranking(questions[0], texts, language=language)]
        times = 1 if len(questions) > 1 else len(texts)
        pairs = zip([*call.questions] * times, questions * times, texts, strict=True)
        return [
            prepare_ranking(q, [t], language=resolve_language(call.language, asked, [t]))
            for asked, q, t in pairs
        ]

    def tokens(_: list[PreparedRanking]) -> int:
        longest = max(questions, key=len)
        return estimate_tokens(longest, texts) if method_info(method).needs_proxy else 0

    def work(prepared: list[PreparedRanking], queued: QueuedRequest) -> list[Reranked]:
        ranker = Reranker(state.methods.scorer(method, isolated=True), method)
        with queued.stopping_at_deadline():
            return [ranker.sort(one, ranker.rank(one)) for one in prepared]

    limits = state.executor.limits(call.timeout_ms)
    running = state.executor.run_prepared(prepare, tokens, work, call.priority, limits)
    found = await run_while_connected(request.receive, running)
    return Pairs(
        [(score, one.calibrated) for one in found for score in _scores_by_document(one)],
        sum(one.tokens_read for one in found),
        list(dict.fromkeys(warning for one in found for warning in one.warnings)),
    )


def _span_attributes(state: ServiceState, found: Reranked, top_n: int | None) -> dict[str, Any]:
    scores = [to_probability(result.score, found.calibrated) for result in found.results]
    return {
        **ranking_attributes(found),
        "gen_ai.response.model": state.methods.reader.card.name,
        "gen_ai.rerank.top_n": top_n,
        "gen_ai.rerank.scores": scores if state.settings.traces == "scores" else None,
    }


def _method_or_default(state: ServiceState, model: str | None) -> str:
    """The method named by `model`, or the default."""
    return state.methods.known_model(model) or state.settings.method


def _answered_model(state: ServiceState, named_model: str | None) -> str:
    """The `model` of an answer: the one that was asked for, else the proxy or method that read."""
    if named_model is not None:
        return named_model
    method = state.settings.method
    return state.methods.reader.card.name if method_info(method).needs_proxy else method


def _scores_by_document(found: Reranked) -> list[float]:
    scores = [0.0] * len(found.passages)
    for ranked in found.results:
        scores[ranked.index] = ranked.score
    return scores


_SERVED_BY: dict[type, Callable[[Request, Any], Any]] = {
    RankCall: rank_documents,
    ScoreCall: score_pairs,
    CompressCall: compress_all,
    MessagesRequest: compress_messages,
}
"""What serves each kind of call."""
routes = create_router()
for _endpoint in ENDPOINTS:
    add_endpoint(routes, _endpoint)
