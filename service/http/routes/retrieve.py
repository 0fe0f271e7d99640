"""`/v1/retrieve/{hash}`: a text as it was before `/v1/compress` shortened it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request, Response

from tamis.service.engine.request import QueuedRequest
from tamis.service.http.conversation.retrieval import retrieve
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    service_state,
)
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.runtime.originals import HASH_DIGITS
from tamis.service.http.schemas.base import MOST_MS
from tamis.service.http.schemas.retrieve import RetrievedOriginal

routes = create_router()
_Hash = Annotated[str, Path(pattern=f"^[a-f0-9]{{{HASH_DIGITS}}}$")]
_QueryText = Annotated[str | None, Query(description="Only the lines that have words of it.")]
_Lines = Annotated[
    str | None, Query(description="Only these lines, such as 12-47.", pattern=r"^[0-9]+(-[0-9]+)?$")
]
_MaxTokens = Annotated[
    int | None, Query(ge=1, le=2**31, description="Of the lines that answer query; 1000 if absent.")
]
_Timeout = Annotated[
    int | None, Query(ge=1, le=MOST_MS, description="Milliseconds that the answer may take.")
]


@routes.get(
    "/v1/retrieve/{hash}",
    response_model=RetrievedOriginal,
    responses=error_responses(404, 408, 422, 504, post=False),
    summary="What was left out of a conversation",
)
async def retrieve_original(
    hash: _Hash,
    request: Request,
    query: _QueryText = None,
    lines: _Lines = None,
    max_tokens: _MaxTokens = None,
    timeout_ms: _Timeout = None,
) -> Response:
    """The original of a hash of `ccr_hashes`, for the API key that compressed it.

    Originals are kept where the service was started with `--retrieve-bytes` and a request had
    `config.mode: "ccr"`, for `--retrieve-s` seconds.
    """
    state, owner = service_state(request), log_entry(request).key
    check_limits(state.settings, [query or ""], 0)
    original = state.originals.get(owner, hash)
    counter = state.methods.counter("proxy")

    def work(_: QueuedRequest) -> Response:
        return json_response(retrieve(hash, original, query, lines, max_tokens, counter))

    running = state.executor.run(work, state.executor.limits(timeout_ms))
    return await run_while_connected(request.receive, running)
