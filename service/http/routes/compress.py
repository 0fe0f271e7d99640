"""`/v1/compress` and `/v1/compress/batch`; includes the router of `/v1/expand`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

from fastapi import Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.registry import method_info
from tamis.compressors.rules import BUDGETS, RULES, rule_names, spec_of
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import resolve_language
from tamis.service.api.languages import served_language_warning
from tamis.service.documents.document_text import raw_html_warning
from tamis.service.engine.deadline import PreparedJob, TimedResult, prepare_job, run_with_deadline
from tamis.service.engine.errors import ClientDisconnected, Overloaded
from tamis.service.engine.request import QueuedRequest
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
    service_state,
)
from tamis.service.http.routes.messages import compress_messages
from tamis.service.http.runtime.errors import failure_of, message_of
from tamis.service.http.runtime.executor import estimate_tokens, run_while_connected
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.compress import CompressBatch, CompressRequest
from tamis.service.http.schemas.compression import (
    BatchItem,
    BatchResult,
    Compression,
    CompressionBuilder,
    CompressionList,
)
from tamis.service.http.schemas.dialects.token_company import (
    InputAnswer,
    InputRequest,
    input_answer,
)
from tamis.service.http.schemas.errors import ErrorDetail
from tamis.service.http.schemas.explain import (
    ExplainRequest,
    budget_selections,
    build_explanation,
)
from tamis.service.http.schemas.messages import MessagesAnswer, MessagesRequest

R = TypeVar("R", bound=CompressRequest)
MAX_CONCURRENT = 4
"""Questions or inputs of one call that are served at the same time."""
routes = create_router()
routes.include_router(expand.routes)
_DIALECTS = {"messages": "conversation", "input": "single"}


def body_dialect(given: Any) -> str:
    """The dialect of a request body, by its keys."""
    keys = given if isinstance(given, dict) and "documents" not in given else {}
    return next((name for key, name in _DIALECTS.items() if key in keys), "ours")


_Ours = Annotated[CompressRequest, Tag("ours")]
_Messages = Annotated[MessagesRequest, Tag("conversation")]
_Input = Annotated[InputRequest, Tag("single")]
_Any = Annotated[_Ours | _Messages | _Input, Discriminator(body_dialect), Body()]


@routes.post(
    "/v1/compress",
    response_model=Compression | CompressionList | MessagesAnswer | InputAnswer,
    responses=PASSTHROUGH_RESPONSES | error_responses(404),
    summary="Keep the sentences that answer, verbatim, within a token budget",
)
async def compress(body: _Any, request: Request) -> Response:
    """Compresses documents for one question, or for each of many.

    A body with `messages` has the tool results of a conversation compressed, one with `input` a
    single text; each is answered in its own shape.
    """
    if isinstance(body, MessagesRequest):
        return await compress_messages(body, request)
    ours = (
        _with_known_model(body.compress_request(), request)
        if isinstance(body, InputRequest)
        else body
    )
    found = await _compress_each_question(ours, request)
    if isinstance(body, InputRequest):
        warnings = [*found[0].warnings, *body.field_warnings()]
        return json_response(input_answer(found[0]), warnings=warnings)
    if ours.queries is None:
        return json_response(found[0])
    return await asyncio.to_thread(json_response, CompressionList(data=found))


def _with_known_model(body: CompressRequest, request: Request) -> CompressRequest:
    """The request with the default model where it names a model that is not served here."""
    known = service_state(request).methods.known_model(body.model)
    return body.model_copy(update={"model": known})


async def _compress_each_question(body: CompressRequest, request: Request) -> list[Compression]:
    """One compression for each question."""
    state, entry = service_state(request), log_entry(request)
    questions = body.questions()
    check_request_limits(state, body, questions)
    began = time.monotonic()
    body = await with_extracted_texts(body)
    work = [compress_question(state, body, question, entry, began) for question in questions]
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
    began = time.monotonic()
    work = [
        _compress_batch_item(state, i, given, entry, began) for i, given in enumerate(body.inputs)
    ]
    found = await run_while_connected(request.receive, _gather_in_order(work))
    return await asyncio.to_thread(json_response, BatchResult(data=found))


def check_request_limits(state: ServiceState, body: CompressRequest, questions: list[str]) -> None:
    full_questions = [body.full_question(question) for question in questions]
    check_limits(state.settings, full_questions, len(body.documents), body.character_count())


async def with_extracted_texts(body: R) -> R:
    """The request with what its pages of HTML show, read in a thread if there are any."""
    if not body.html_documents():
        return body
    return await asyncio.to_thread(body.with_extracted_texts)


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
    began: float,
) -> BatchItem:
    """One input of a batch; where the queue is full it waits, for the batch itself was admitted.

    The service's time limit counts from when the batch began, `timeout_ms` from when its turn came.
    """
    try:
        if len(questions := body.questions()) > 1:
            raise BadInput(
                f"input {index} has {len(questions)} queries; in a batch give each an input of "
                "its own, or send queries to /v1/compress"
            )
        question = questions[0]
        check_request_limits(state, body, questions)
        body = await with_extracted_texts(body)
        while True:
            try:
                found = await compress_question(
                    state, body, question, entry, began, began_item=time.monotonic()
                )
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
    began: float,
    began_item: float | None = None,
) -> Compression:
    """One question's compression; its time limits count from when its call began.

    Args:
        began: when the call began. began_item: when `timeout_ms` begins to count, if later.
    """
    method = state.methods.resolve_method(body.model, body.method)
    explains = isinstance(body, ExplainRequest)
    call = _QuestionCall(state, body, question, method, (entry.key, entry.id), explains)
    timeout_ms = body.timeout_ms
    now = time.monotonic()
    if timeout_ms is not None:
        counted_from = began if began_item is None else began_item
        timeout_ms = max(1, timeout_ms - round((now - counted_from) * 1e3))
    try:
        found = await state.executor.run_prepared(
            call.prepare,
            call.tokens_needed,
            call.finish,
            body.priority,
            timeout_ms,
            began + state.executor.timeout_s - now,
        )
    except Exception as error:
        note_passthrough(state, entry, error, body.on_error)
        found = await asyncio.to_thread(_whole_documents, call, message_of(error))
    usage = found.usage
    # a request with `shadow` gets its input back, so it saves nothing
    tokens_out = usage.input_tokens if body.shadow else usage.output_tokens
    state.metrics.count_compression(usage.input_tokens, tokens_out, entry.key)
    entry.tokens_in = (entry.tokens_in or 0) + usage.input_tokens
    entry.tokens_out = (entry.tokens_out or 0) + tokens_out
    return found


@dataclass(frozen=True, slots=True)
class _QuestionCall:
    """One question of a request, from its documents to its answer; each step runs in a thread.

    Attributes:
        sender: the owner of its API key, and its request id.
        all_units: whether the answer is an `Explanation`.
    """

    state: ServiceState
    body: CompressRequest
    question: str
    method: str
    sender: tuple[str, str]
    all_units: bool = False

    def prepare(self) -> PreparedJob:
        """Checks and segments; no model runs."""
        methods, body = self.state.methods, self.body
        language = resolve_language(body.language, self.question, body.texts())
        job = replace(body.compression_job(self.question, self.all_units), language=language)
        scorer, counter = methods.scorer(self.method), methods.counter(body.tokenizer)
        return prepare_job(scorer, self.method, counter, job, methods.orderers)

    def tokens_needed(self, prepared: PreparedJob) -> int | None:
        """About how many tokens the model has to read; None where the context fits as it is."""
        if not prepared.needs_scores:
            return None
        if not method_info(self.method).needs_proxy:
            return 0
        return estimate_tokens(self.body.full_question(self.question), self.body.texts())

    def finish(self, prepared: PreparedJob, queued: QueuedRequest) -> Compression:
        """The compression, and what the metrics count of it."""
        running = self.state.running
        with running.follow(*self.sender, queued) if self.all_units else nullcontext():
            timed_result = run_with_deadline(prepared)
            found = self._answer(prepared, queued, timed_result)
            if not (self.all_units and isinstance(self.body, ExplainRequest)):
                return found
            compression = prepared.compression
            selections = budget_selections(timed_result, compression, self.body.selections)
            limit = compression.budget.tokens(compression.tokens_in)
            return build_explanation(found, self.body, compression.counter, limit, selections)

    def _answer(
        self, prepared: PreparedJob, queued: QueuedRequest, timed_result: TimedResult
    ) -> Compression:
        methods, metrics, body, job = (
            self.state.methods,
            self.state.metrics,
            self.body,
            prepared.job,
        )
        result = timed_result.result
        waited = {"queue": queued.queue_ms, "forward": queued.forward_ms}
        metrics.observe_stages({**result.timings_ms, **waited})
        metrics.cached_tokens.inc(result.tokens_cached)
        if timed_result.units_read < timed_result.units:
            metrics.fallbacks.labels("partial").inc()
        card = (methods.reader.card.name, methods.reader.card.revision)
        counter = prepared.compression.counter
        pages = body.html_documents()
        builder = CompressionBuilder(
            timed_result, job.rules, counter, body.offset_unit, card, pages
        )
        returned = body.return_
        found = builder.build(
            queued,
            returned.spans,
            "all" if self.all_units else returned.units,
            returned.documents or self.all_units,
            returned.text,
            body.shadow,
        )
        texts = body.texts()
        warning = served_language_warning(card[0], self.method, job.language, self.question, texts)
        if warning and result.status != "passthrough":
            found.warnings.append(warning)
        if raw := raw_html_warning(texts):
            found.warnings.append(raw)
        return found


def _whole_documents(call: _QuestionCall, why: str) -> Compression:
    """The documents unchanged, for a caller who prefers them to an error (`passthrough`)."""
    in_requests = rule_names("http")
    selecting = {
        rule.name: rule.default
        for rule in RULES
        if rule.name in in_requests and spec_of(rule).selects
    }
    budget = {**dict.fromkeys(BUDGETS), "adaptive": None, "max_tokens": 2**31}
    plain = call.body.model_copy(update=budget | selecting)
    whole = replace(call, body=plain, all_units=False)
    found = whole.finish(whole.prepare(), QueuedRequest(0, 0.0, 0))
    found.warnings.append(f"nothing was left out, for the service could not: {why}")
    return found
