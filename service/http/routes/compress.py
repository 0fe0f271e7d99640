"""Compressions of a call, and `/v1/compress/batch`; includes the router of `/v1/expand`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request, Response

from tamis.probes.errors import BadInput
from tamis.service.api.spans import set_attributes
from tamis.service.engine.errors import ClientDisconnected, Overloaded
from tamis.service.engine.thread_pool import request_bytes
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.routes import expand
from tamis.service.http.routes.base import (
    PASSTHROUGH_RESPONSES,
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    note_passthrough,
    request_span,
    service_state,
)
from tamis.service.http.routes.question_call import (
    QuestionCall,
    SharedDocuments,
    whole_documents,
)
from tamis.service.http.runtime.errors import failure_of, message_of
from tamis.service.http.runtime.executor import TimeLimits, run_while_connected
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.compress import CompressBatch, CompressRequest
from tamis.service.http.schemas.compression import BatchItem, BatchResult, Compression
from tamis.service.http.schemas.dialects.base import CompressCall
from tamis.service.http.schemas.errors import ErrorDetail
from tamis.service.http.schemas.explain import ExplainRequest

R = TypeVar("R", bound=CompressRequest)
MAX_CONCURRENT = 4
"""Questions or inputs of one call that are served at the same time."""
routes = create_router()
routes.include_router(expand.routes)


async def compress_all(request: Request, call: CompressCall) -> list[Compression]:
    """One compression for each question of each request of a call.

    Raises:
        BadInput: more requests than a call may have, or one that cannot be served.
    """
    state, entry = service_state(request), log_entry(request)
    check_limits(state.settings, [""] * len(call.requests), 0)
    for body in call.requests:
        check_request_limits(state, body, body.questions())
    began, work = time.monotonic(), []
    for body in call.requests:
        if call.any_model:
            body = body.model_copy(update={"model": state.methods.known_model(body.model)})
        limits = state.executor.limits(body.timeout_ms, began)
        body = await with_extracted_texts(state, body, limits)
        documents = SharedDocuments()
        for question in body.questions():
            work.append(compress_question(state, body, question, entry, limits, documents))
    request_bytes.set(request_bytes.get() // len(work))
    found: list[Compression] = await run_while_connected(request.receive, _gather_in_order(work))
    return found


@routes.post(
    "/v1/compress/batch",
    response_model=BatchResult,
    responses=PASSTHROUGH_RESPONSES | error_responses(404),
    summary="Many requests in one call",
)
async def compress_batch(body: CompressBatch, request: Request) -> Response:
    """Each input gets a compression or an error of its own; one failure leaves the others alone."""
    state, entry = service_state(request), log_entry(request)
    check_limits(
        state.settings,
        [""] * len(body.inputs),
        max((len(i.documents) for i in body.inputs), default=0),
    )
    limits = state.executor.limits()
    request_bytes.set(request_bytes.get() // max(1, len(body.inputs)))
    work = [
        _compress_batch_item(state, i, given, entry, limits) for i, given in enumerate(body.inputs)
    ]
    found = await run_while_connected(request.receive, _gather_in_order(work))
    return await asyncio.to_thread(json_response, BatchResult(data=found))


def check_request_limits(state: ServiceState, body: CompressRequest, questions: list[str]) -> None:
    full_questions = [body.full_question(question) for question in questions]
    check_limits(state.settings, full_questions, len(body.documents), body.character_count())


async def with_extracted_texts(state: ServiceState, body: R, limits: TimeLimits) -> R:
    """The request with what its pages of HTML show, read in a thread if there are any."""
    if not body.html_documents():
        return body
    return await state.executor.run(lambda _: body.with_extracted_texts(), limits)


async def _gather_in_order(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Awaits a few at a time; results in order. The first failure cancels the rest."""
    slots = asyncio.Semaphore(MAX_CONCURRENT)

    async def run_one(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            async with slots:
                return await coroutine
        finally:
            coroutine.close()  # one that never started because another failed

    tasks = [asyncio.ensure_future(run_one(coroutine)) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _compress_batch_item(
    state: ServiceState,
    index: int,
    body: CompressRequest,
    entry: RequestLogEntry,
    limits: TimeLimits,
) -> BatchItem:
    """One input of a batch; where the queue is full it waits, for the batch itself was admitted.

    The service's time limit counts from when the batch began, `timeout_ms` from when its turn came.
    """
    try:
        own = state.executor.limits(body.timeout_ms)
        limits = replace(limits, deadline=own.deadline)
        if len(questions := body.questions()) > 1:
            raise BadInput(
                f"input {index} has {len(questions)} queries; in a batch give each an input of "
                "its own, or send queries to /v1/compress"
            )
        question = questions[0]
        check_request_limits(state, body, questions)
        body = await with_extracted_texts(state, body, limits)
        shared = SharedDocuments()
        while True:
            try:
                found = await compress_question(state, body, question, entry, limits, shared)
                return BatchItem(index=index, compression=found)
            except Overloaded as full:
                await asyncio.sleep(min(full.retry_after_s or 1.0, 1.0))
    except ClientDisconnected:
        raise
    except Exception as error:
        entry.add_fault(error)
        failure = failure_of(error)
        detail = ErrorDetail(
            message=message_of(error), type=failure.type, param=None, code=failure.code
        )
        return BatchItem(index=index, error=detail)


async def compress_question(
    state: ServiceState,
    body: CompressRequest,
    question: str,
    entry: RequestLogEntry,
    limits: TimeLimits,
    documents: SharedDocuments,
) -> Compression:
    """One question's compression."""
    method = state.methods.resolve_method(body.model, body.method)
    explains = isinstance(body, ExplainRequest)
    call = QuestionCall(state, body, question, method, documents, entry, explains)
    with request_span(state, "compress", body.model) as span:
        try:
            found = await state.executor.run_prepared(
                call.prepare, call.tokens_needed, call.finish, body.priority, limits
            )
        except Exception as error:
            note_passthrough(state, entry, error, body.on_error)
            found = await asyncio.to_thread(whole_documents, call, message_of(error))
        if span is not None:
            set_attributes(span, _span_attributes(found, len(body.documents)))
    usage = found.usage
    # a request with `shadow` gets its input back, so it saves nothing
    tokens_out = usage.input_tokens if body.shadow else usage.output_tokens
    state.metrics.count_compression(usage.input_tokens, tokens_out, entry.key)
    entry.tokens_in = (entry.tokens_in or 0) + usage.input_tokens
    entry.tokens_out = (entry.tokens_out or 0) + tokens_out
    return found


def _span_attributes(found: Compression, documents: int) -> dict[str, Any]:
    return {
        "gen_ai.response.model": found.model,
        "gen_ai.usage.input_tokens": found.usage.input_tokens,
        "gen_ai.usage.output_tokens": found.usage.output_tokens,
        "tamis.documents": documents,
        "tamis.method": found.method,
        "tamis.status": found.status,
        "tamis.answerability": found.answerability,
    }
