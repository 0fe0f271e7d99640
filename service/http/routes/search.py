"""`/v1/search`: passages of an index that was opened at start-up."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import Request, Response

from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    service_state,
)
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.schemas.search import SearchAnswer, SearchRequest, search_answer

routes = create_router()


@routes.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=error_responses(404, 501),
    summary="Find passages in an index",
)
async def search(body: SearchRequest, request: Request) -> Response:
    """The passages of an index that match the question best."""
    state = service_state(request)
    name, index = state.find_index(body.index)
    check_limits(state.settings, [body.query], 0)
    run_search = partial(
        index.search, body.query, body.k, body.where, by=body.by, search=body.search
    )
    hits = await run_while_connected(request.receive, asyncio.to_thread(run_search))
    return json_response(search_answer(name, hits))
