"""`/v1/explain`: a compression with every sentence, and what would be kept under other budgets."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import Request, Response

from tamis.service.http.routes.base import (
    PASSTHROUGH_RESPONSES,
    create_router,
    error_responses,
    json_response,
    log_entry,
    service_state,
)
from tamis.service.http.routes.compress import (
    SharedDocuments,
    checked_questions,
    compress_question,
    with_extracted_texts,
)
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.schemas.explain import ExplainRequest, Explanation, build_explanation

routes = create_router()


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
    if body.query is None:
        body.questions()  # raises where neither or both are given
    query = body.query or body.questions()[0]
    check = partial(checked_questions, state, body, [query])
    (question,) = await state.executor.run_off_loop(check)
    body.check_selections()
    limits = state.executor.limits(body.timeout_ms)
    body = await with_extracted_texts(state, body, limits)
    found = await run_while_connected(
        request.receive,
        compress_question(state, body, query, question, entry, limits, SharedDocuments()),
    )
    if not isinstance(found, Explanation):  # the documents as they came: `passthrough`
        counter = state.methods.counter(body.tokenizer)
        found = build_explanation(found, body, counter, None, None)
    return await asyncio.to_thread(json_response, found)
