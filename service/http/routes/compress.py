"""`/v1/compress`, `/v1/compress/batch` and `/v1/explain`; `/v1/expand` stands beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import replace
from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import Discriminator, Tag

from tamis.compressors.types import Budget
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import spoken
from tamis.service.api.languages import served_warning
from tamis.service.engine.deadline import sift
from tamis.service.engine.errors import Gone, Overloaded
from tamis.service.engine.request import Ticket
from tamis.service.http.middleware.request_log import Record
from tamis.service.http.routes import expand
from tamis.service.http.routes.base import PASSED, answer, answers, check, house_of, record, router
from tamis.service.http.runtime.errors import failure_of, message_of
from tamis.service.http.runtime.executor import attended, guessed_tokens
from tamis.service.http.runtime.state import House
from tamis.service.http.schemas.compress import CompressBatch, CompressRequest
from tamis.service.http.schemas.compression import (
    BatchItem,
    BatchResult,
    Compression,
    CompressionList,
    Writer,
)
from tamis.service.http.schemas.errors import ErrorDetail
from tamis.service.http.schemas.explain import Explanation, explanation
from tamis.service.http.schemas.messages import Conversation, MessagesAnswer, MessagesRequest
from tamis.service.http.schemas.token_company import InputAnswer, InputRequest, input_answer

BESIDE = 4
"""Questions or inputs of one call that are served at the same time."""
_OURS = 500
routes = router()
routes.include_router(expand.routes)
_DIALECTS = {"messages": "conversation", "input": "single"}


def dialect(given: Any) -> str:
    """Whose request a body is, by its keys."""
    keys = given if isinstance(given, dict) and "documents" not in given else {}
    return next((name for key, name in _DIALECTS.items() if key in keys), "ours")


_Ours = Annotated[CompressRequest, Tag("ours")]
_Messages = Annotated[MessagesRequest, Tag("conversation")]
_Input = Annotated[InputRequest, Tag("single")]
_Any = Annotated[_Ours | _Messages | _Input, Discriminator(dialect), Body()]


@routes.post(
    "/v1/compress",
    response_model=Compression | CompressionList | MessagesAnswer | InputAnswer,
    responses=PASSED | answers(404),
    summary="Keep the sentences that answer, verbatim, within a token budget",
)
async def compress(body: _Any, request: Request) -> Response:
    """Compresses documents for one question, or for each of many.

    With `messages` the tool results of a conversation, with `input` one text; each is answered in
    its own shape.
    """
    if isinstance(body, MessagesRequest):
        return await _conversation(body, request)
    ours = _served(body.request(), request) if isinstance(body, InputRequest) else body
    found = await _answered(ours, request)
    if isinstance(body, InputRequest):
        return answer(input_answer(found[0]))
    return answer(found[0] if ours.queries is None else CompressionList(data=found))


async def _conversation(body: MessagesRequest, request: Request) -> Response:
    count = house_of(request).serving.counter("proxy").count
    talk = await asyncio.to_thread(Conversation, body, count)
    ours = talk.request()
    found = (await _answered(_served(ours, request), request))[0] if ours else None
    return answer(await asyncio.to_thread(talk.answer, found))


def _served(body: CompressRequest, request: Request) -> CompressRequest:
    """Clients of other services name models of their own, and the default serves them."""
    methods = house_of(request).serving.methods
    return body if body.model in methods else body.model_copy(update={"model": None})


async def _answered(body: CompressRequest, request: Request) -> list[Compression]:
    """One compression a question."""
    house, seen = house_of(request), record(request)
    questions = body.asked()
    _check(house, body, questions)
    began = time.monotonic()
    work = [_compression(house, body, question, seen, began=began) for question in questions]
    found: list[Compression] = await attended(request.receive, _beside(work))
    return found


@routes.post(
    "/v1/explain",
    response_model=Explanation,
    responses=PASSED | answers(404),
    summary="The same, with every sentence and its score",
)
async def explain(body: CompressRequest, request: Request) -> Response:
    """Everything of `/v1/compress`, and every unit with span, score, kept and tokens."""
    house, seen = house_of(request), record(request)
    if body.query is None:
        body.asked()  # says what is wrong with none or both
    question = body.query or body.asked()[0]
    _check(house, body, [question])
    found = await attended(request.receive, _compression(house, body, question, seen, every=True))
    budget, counter = body.budget(), house.serving.counter(body.tokenizer)
    limit = budget.tokens(found.usage.input_tokens) if isinstance(budget, Budget) else None
    told = explanation(found, counter, body.separator, limit, body.threshold)
    return answer(told)


@routes.post(
    "/v1/compress/batch",
    response_model=BatchResult,
    responses=PASSED | answers(404),
    summary="Many requests in one call",
)
async def compress_batch(body: CompressBatch, request: Request) -> Response:
    """Each input has a compression or an error of its own; one that fails harms no other."""
    house, seen = house_of(request), record(request)
    check(
        house.settings,
        [""] * len(body.inputs),
        max((len(i.documents) for i in body.inputs), default=0),
    )
    work = [_item(house, i, given, seen) for i, given in enumerate(body.inputs)]
    return answer(BatchResult(data=await attended(request.receive, _beside(work))))


def _check(house: House, body: CompressRequest, questions: list[str]) -> None:
    wanted = [body.wanted(question) for question in questions]
    check(house.settings, wanted, len(body.documents), body.characters())


async def _beside(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """A few at a time, in order; the first that fails ends all."""
    room = asyncio.Semaphore(BESIDE)

    async def one(coroutine: Coroutine[Any, Any, Any]) -> Any:
        try:
            async with room:
                return await coroutine
        finally:
            coroutine.close()  # one that another's failure kept from its turn

    tasks = [asyncio.ensure_future(one(coroutine)) for coroutine in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _item(house: House, index: int, body: CompressRequest, seen: Record) -> BatchItem:
    """One input of a batch; where the line is full it waits, for the batch itself was let in."""
    try:
        if len(questions := body.asked()) > 1:
            raise BadInput(
                f"input {index} has {len(questions)} queries; in a batch give each an input of "
                "its own, or send queries to /v1/compress"
            )
        question = questions[0]
        _check(house, body, questions)
        while True:
            try:
                found = await _compression(house, body, question, seen)
                return BatchItem(index=index, compression=found)
            except Overloaded as full:
                await asyncio.sleep(min(full.retry_after_s or 1.0, 1.0))
    except Gone:
        raise
    except Exception as error:
        seen.note(error)
        failure = failure_of(error)
        told = ErrorDetail(
            message=message_of(error), type=failure.type, param=None, code=failure.code
        )
        return BatchItem(index=index, error=told)


async def _compression(
    house: House,
    body: CompressRequest,
    question: str,
    seen: Record,
    every: bool = False,
    began: float | None = None,
) -> Compression:
    """One question's answer; `timeout_ms` counts from when its call began, not from its turn."""
    method = house.serving.named(body.model, body.method)
    tokens = guessed_tokens(body.wanted(question), body.texts()) if house.reads(method) else 0

    def work(ticket: Ticket) -> Compression:
        return _compressed(house, body, question, method, ticket, every)

    timeout_ms = body.timeout_ms
    if timeout_ms is not None and began is not None:
        timeout_ms = max(1, timeout_ms - round((time.monotonic() - began) * 1e3))
    try:
        found = await house.desk.run(work, tokens, body.priority, timeout_ms)
    except Exception as error:
        failure = failure_of(error)
        if body.on_error == "fail" or (failure.status < _OURS and failure.status != 429):
            raise
        seen.note(error)
        seen.passed.append(failure.code)
        house.metrics.fallbacks.labels(failure.code).inc()
        found = await asyncio.to_thread(_whole, house, body, question, method, message_of(error))
    usage = found.usage
    # in shadow nothing is saved yet
    tokens_out = usage.input_tokens if body.shadow else usage.output_tokens
    house.metrics.compressed(usage.input_tokens, tokens_out, seen.key)
    seen.tokens_in = (seen.tokens_in or 0) + usage.input_tokens
    seen.tokens_out = (seen.tokens_out or 0) + tokens_out
    return found


def _compressed(
    house: House, body: CompressRequest, question: str, method: str, ticket: Ticket, every: bool
) -> Compression:
    """The work itself, in a thread of the request's own."""
    serving, language = house.serving, spoken(body.language, question, body.texts())
    order = replace(body.order_of(question, every), language=language)
    counter = serving.counter(body.tokenizer)
    sifted = sift(serving.scorer(method), method, counter, order, serving.orderers)
    timings = {**sifted.result.timings_ms, "queue": ticket.queue_ms, "forward": ticket.forward_ms}
    house.metrics.stages(timings)
    house.metrics.cached_tokens.inc(sifted.result.tokens_cached)
    if sifted.read < sifted.units:
        house.metrics.fallbacks.labels("partial").inc()
    shown = body.return_
    card = (serving.reader.card.name, serving.reader.card.revision)
    found = Writer(sifted, order.rules, counter, body.offset_unit, card).compression(
        ticket,
        shown.spans,
        "all" if every else shown.units,
        shown.documents or every,
        shown.text,
        body.shadow,
    )
    note = served_warning(card[0], method, language, question, body.texts())
    if note and sifted.result.status != "passthrough":
        found.warnings.append(note)
    return found


def _whole(
    house: House, body: CompressRequest, question: str, method: str, why: str
) -> Compression:
    """The documents as they are, for a caller who would rather have them than an error."""
    plain = body.model_copy(
        update={
            "max_tokens": 2**31,
            "ratio": None,
            "threshold": None,
            "coverage": None,
            "adaptive": None,
            "unanswerable": "best_effort",
            "order": "original",
            "top_n": None,
        }
    )
    ticket = Ticket(0, 0.0, 0)
    found = _compressed(house, plain, question, method, ticket, every=False)
    found.warnings.append(f"nothing was left out, for the service could not: {why}")
    return found
