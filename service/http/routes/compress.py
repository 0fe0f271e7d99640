"""Compressions of a call, `/v1/compress/batch`, `/v1/explain` and `/v1/expand`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from fastapi import Request, Response

from tamis.compressors.pipeline.compression import Compressor, Prepared, check_room
from tamis.compressors.registry import method_info
from tamis.compressors.rules import BUDGETS, rules_in
from tamis.compressors.types import Compressed, Scores
from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.probes.named_tokenizers import approximation_warning
from tamis.probes.tokens import ESTIMATE
from tamis.service.api.languages import served_language_warning
from tamis.service.api.spans import set_attributes
from tamis.service.engine.errors import ClientDisconnected, OutOfTime, Overloaded
from tamis.service.engine.request import QueuedRequest, current_request
from tamis.service.files.document_text import raw_html_warning
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.routes.base import (
    PASSTHROUGH_RESPONSES,
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    note_passthrough,
    request_span,
    run_connected,
    service_state,
)
from tamis.service.http.runtime.errors import ErrorDetail, failure_of, message_of
from tamis.service.http.runtime.executor import (
    TimeLimits,
    estimate_tokens,
    request_bytes,
    run_while_connected,
)
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import new_id
from tamis.service.http.schemas.compress import (
    BatchItem,
    BatchResult,
    CompressBatch,
    Compression,
    CompressionBuilder,
    CompressRequest,
    InvalidInput,
)
from tamis.service.http.schemas.dialects.base import CompressCall
from tamis.service.http.schemas.expand import ExpandRequest, Expansion, expanded_spans
from tamis.service.http.schemas.explain import (
    ExplainRequest,
    Explanation,
    budget_selections,
    build_explanation,
)
from tamis.text.language import resolve_language

R = TypeVar("R", bound=CompressRequest)
MAX_CONCURRENT = 4
"""Questions or inputs of one call that are served at the same time."""
_LATEST_TURN_S = 1.0
"""So long after the deadline a question may begin, whose units are then placed by their words."""
_LOCK_POLL_S = 0.05
routes = create_router()


@routes.post(
    "/v1/expand",
    response_model=Expansion,
    responses=error_responses(),
    summary="Fetch what was left out around spans, by whole sentences",
)
async def expand(body: ExpandRequest, request: Request) -> Response:
    """Grows spans of documents to whole sentences and their neighbours; no model is used."""
    state = service_state(request)
    sizes = await state.executor.run_off_loop(body.character_counts)
    check_limits(state.settings, [body.question or ""], len(sizes), sum(sizes))
    if len(body.spans) > (most := state.settings.max_inputs):
        raise BadInput(f"{len(body.spans)} spans were given and {most} is the most")

    def work(_: QueuedRequest) -> Response:
        return json_response(Expansion(results=list(expanded_spans(body))))

    return await run_connected(request, work, body.timeout_ms)


async def compress_all(request: Request, call: CompressCall) -> list[Compression]:
    """One compression for each question of each request of a call.

    Raises:
        BadInput: more requests than a call may have, or one that cannot be served.
    """
    state, entry = service_state(request), log_entry(request)
    check_limits(state.settings, [""] * len(call.requests), 0)

    def check() -> list[list[str]]:
        return [checked_questions(state, body, body.all_questions()) for body in call.requests]

    asked = await state.executor.run_off_loop(check)
    began, work = time.monotonic(), []
    for body, questions in zip(call.requests, asked, strict=True):
        if call.any_model:
            body = body.model_copy(update={"model": state.methods.known_model(body.model)})
        limits = state.executor.limits(body.timeout_ms, began)
        body = await with_extracted_texts(state, body, limits)
        shared = SharedDocuments()
        for alone, question in zip(body.all_questions(), questions, strict=True):
            one = compress_question(state, body, alone, question, entry, limits, shared)
            work.append(one)
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
    state = service_state(request)
    inputs: Sequence[CompressRequest | InvalidInput] = body.inputs
    valid = [given for given in inputs if isinstance(given, CompressRequest)]
    check_limits(
        state.settings, [""] * len(inputs), max((len(i.documents) for i in valid), default=0)
    )
    limits = state.executor.limits()
    request_bytes.set(request_bytes.get() // max(1, len(inputs)))
    work = [_compress_batch_item(request, i, given, limits) for i, given in enumerate(inputs)]
    found = await run_while_connected(request.receive, _gather_in_order(work))
    return await asyncio.to_thread(json_response, BatchResult(data=found))


def checked_questions(state: ServiceState, body: CompressRequest, given: list[str]) -> list[str]:
    """Questions with their instruction and history, as the model reads them, within the limits.

    Raises:
        BadInput: too many documents or questions, or a question that is too long.
        TooLarge: more text than the service reads.
    """
    questions = [body.full_question(asked) for asked in given]
    check_limits(state.settings, questions, len(body.documents), body.character_count())
    return questions


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
    request: Request, index: int, body: CompressRequest | InvalidInput, limits: TimeLimits
) -> BatchItem:
    """One input of a batch; where the queue is full it waits, for the batch itself was admitted.

    The service's time limit counts from when the batch began, `timeout_ms` from when its turn came.
    """
    state, entry = service_state(request), log_entry(request)
    try:
        if isinstance(body, InvalidInput):
            raise body.error
        own = state.executor.limits(body.timeout_ms)
        limits = replace(limits, deadline=own.deadline)
        if len(given := body.all_questions()) > 1:
            raise BadInput(
                f"input {index} has {len(given)} questions; in a batch give each an input of "
                "its own, or send questions to /v1/compress"
            )
        (asked,), (question,) = given, checked_questions(state, body, given)
        body = await with_extracted_texts(state, body, limits)
        shared = SharedDocuments()
        while True:
            try:
                found = await compress_question(state, body, asked, question, entry, limits, shared)
                return BatchItem(index=index, compression=found)
            except Overloaded as full:
                await asyncio.sleep(min(full.retry_after_s or 1.0, 1.0))
    except ClientDisconnected:
        raise
    except Exception as error:
        entry.add_fault(error)
        failure = failure_of(error)
        detail = ErrorDetail(
            message=message_of(error),
            type=failure.type,
            param=body.param if isinstance(body, InvalidInput) else None,
            code=failure.code,
        )
        return BatchItem(index=index, error=detail)


async def compress_question(
    state: ServiceState,
    body: CompressRequest,
    asked: str,
    question: str,
    entry: RequestLogEntry,
    limits: TimeLimits,
    documents: SharedDocuments,
) -> Compression:
    """One question's compression; the arguments are those of `QuestionCall`."""
    method = state.methods.resolve_method(body.model, body.method)
    explains = isinstance(body, ExplainRequest)
    call = QuestionCall(state, body, asked, question, method, documents, entry, explains)
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
        "tamis.verdict": found.verdict,
    }


@dataclass(slots=True)
class SharedDocuments:
    """What the questions of one call share: its documents, segmented and counted once.

    Attributes:
        whole: the answer with nothing left out, once there is one.
    """

    whole: Compression | None = None
    _prepared: dict[str, Prepared] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, language: str, make: Callable[[], Prepared]) -> Prepared:
        """What was prepared for another question in the same language, or what `make` prepares."""
        with self._hold_lock():
            if (found := self._prepared.get(language)) is None:
                found = self._prepared[language] = make()
            return found

    def whole_answer(self, make: Callable[[], Compression]) -> Compression:
        """The answer with nothing left out, for one more question."""
        with self._hold_lock():
            self.whole = self.whole or make()
            return self.whole.model_copy(update={"id": new_id("cmp")})

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        while not self._lock.acquire(timeout=_LOCK_POLL_S):
            check_interruption()
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class QuestionCall:
    """One question of a request, from its documents to its answer; each step runs in a thread.

    Attributes:
        asked: the question alone.
        question: the same with its instruction and history, as the model reads it.
        method: that scores.
        documents: what it shares with the other questions.
        entry: of the request in the log.
        all_units: whether the answer is an `Explanation`.
    """

    state: ServiceState
    body: CompressRequest
    asked: str
    question: str
    method: str
    documents: SharedDocuments
    entry: RequestLogEntry
    all_units: bool = False

    @property
    def compressor(self) -> Compressor:
        """The method and the tokenizer of the request."""
        body = self.body
        return self.state.methods.compressor(self.method, body.tokenizer, body.options)

    def prepare(self) -> Prepared:
        """Checks and segments; no model runs.

        Raises:
            OutOfTime: its turn came too late. BudgetTooSmall: not even the shortest sentence fits.
        """
        request = current_request()
        if request is not None and request.is_late(_LATEST_TURN_S):
            raise OutOfTime("timeout_ms was over before the turn of this question came")
        compressor, body = self.compressor, self.body
        language = resolve_language(body.language, self.asked, body.texts())
        asked = self.question, language, self.entry.search_time, self.all_units
        found = self.documents.prepare(
            language, lambda: compressor.prepare(body.compression(*asked))
        )
        check_room(found)
        return found.with_question(self.question)

    def tokens_needed(self, prepared: Prepared) -> int | None:
        """About how many tokens the model has to read; None where the context fits as it is."""
        if not prepared.needs_scores:
            return None
        if not method_info(self.method).needs_proxy:
            return 0
        return estimate_tokens(self.question, self.body.texts())

    def finish(self, prepared: Prepared, queued: QueuedRequest) -> Compression:
        """The compression, and what the metrics count of it.

        Raises:
            OutOfTime: nothing was read in time, and the budget needs probabilities.
        """
        compressor, running = self.compressor, self.state.running
        key, request_id = self.entry.key, self.entry.id
        with running.follow(key, request_id, queued) if self.all_units else nullcontext():
            scores = compressor.score(prepared) if prepared.needs_scores else None
            try:
                result = compressor.select(prepared, scores)
            except BadInput:
                if scores is not None and scores.is_late and not scores.count_read:
                    raise OutOfTime(
                        "nothing was read in time, and a threshold needs probabilities"
                    ) from None
                raise
            found = self._answer(prepared, queued, result, scores)
            if not (self.all_units and isinstance(self.body, ExplainRequest)):
                return found
            calibrated = scores is not None and scores.calibrated
            selections = budget_selections(result, prepared, calibrated, self.body.selections)
            limit = prepared.budget.tokens(prepared.tokens_in)
            return build_explanation(found, self.body, prepared.counter, limit, selections)

    def _answer(
        self, prepared: Prepared, queued: QueuedRequest, result: Compressed, scores: Scores | None
    ) -> Compression:
        methods, metrics, body = self.state.methods, self.state.metrics, self.body
        waited = {"queue": queued.queue_ms, "forward": queued.forward_ms}
        metrics.observe_stages({**result.timings_ms, **waited})
        metrics.cached_tokens.inc(result.tokens_cached)
        if scores is not None and scores.is_late:
            self.entry.count_partial(metrics)
        card = (methods.reader.card.name, methods.reader.card.revision)
        counter = prepared.counter
        parts = body.return_
        if self.all_units:
            parts = parts.model_copy(update={"units": "all", "documents": True})
        found = CompressionBuilder(
            result,
            scores,
            prepared.rules,
            counter,
            body.offset_unit,
            card,
            body.html_documents(),
            parts,
            body.shadow,
        ).build(queued)
        texts, language = body.texts(), prepared.request.language
        warning = served_language_warning(card[0], self.method, language, self.asked, texts)
        if warning and result.status != "passthrough":
            found.warnings.append(warning)
        if raw := raw_html_warning(texts):
            found.warnings.append(raw)
        found.usage.estimated = bool(counter.approximates) or counter.name == ESTIMATE
        if counter.approximates:
            found.warnings.append(approximation_warning(counter))
        return found


def whole_documents(call: QuestionCall, why: str) -> Compression:
    """The documents unchanged, for a caller who prefers them to an error (`passthrough`)."""

    def make() -> Compression:
        selecting = {rule.name: rule.default for rule in rules_in("http") if rule.selects}
        budget = {**dict.fromkeys(BUDGETS), "adaptive": None, "max_tokens": 2**31}
        plain = call.body.model_copy(update=budget | selecting)
        whole = replace(call, body=plain, documents=SharedDocuments(), all_units=False)
        return whole.finish(whole.prepare(), QueuedRequest(0, 0.0, 0))

    found = call.documents.whole_answer(make)
    reason = f"nothing was left out, for the service could not: {why}"
    return found.model_copy(update={"warnings": [*found.warnings, reason]})


@routes.post(
    "/v1/explain",
    response_model=Explanation,
    responses=PASSTHROUGH_RESPONSES | error_responses(404),
    summary="The same, with every sentence and its score",
)
async def explain(body: ExplainRequest, request: Request) -> Response:
    """Everything of `/v1/compress`, and every unit with span, score, kept and tokens.

    While it is served, `/v1/progress/{request_id}` says how far it has come.
    """
    state, entry = service_state(request), log_entry(request)
    asked = body.all_questions()[0]
    check = partial(checked_questions, state, body, [asked])
    (question,) = await state.executor.run_off_loop(check)
    body.check_selections()
    limits = state.executor.limits(body.timeout_ms)
    body = await with_extracted_texts(state, body, limits)
    found = await run_while_connected(
        request.receive,
        compress_question(state, body, asked, question, entry, limits, SharedDocuments()),
    )
    if not isinstance(found, Explanation):  # the documents as they came: `passthrough`
        counter = state.methods.counter(body.tokenizer)
        found = build_explanation(found, body, counter, None, None)
    return await asyncio.to_thread(json_response, found)
