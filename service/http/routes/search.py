"""`/v1/search`: passages of an index that was opened at start-up."""

from __future__ import annotations

from fastapi import Request, Response

from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    run_connected,
    service_state,
)
from tamis.service.http.schemas.search import SearchAnswer, SearchRequest, search_answer

routes = create_router()


@routes.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=error_responses(404, 501),
    summary="Find passages in an index",
)
async def search(body: SearchRequest, request: Request) -> Response:
    """The passages of an index that match the question best.

    A search is admitted like other requests, and ends at `timeout_ms`: it has no answer before.
    """
    state = service_state(request)
    name, index = state.find_index(body.index)
    check_limits(state.settings, [body.query], 0)

    def work(_: QueuedRequest) -> Response:
        hits = index.search(body.query, body.k, body.where, by=body.by, search=body.search)
        return json_response(search_answer(name, hits))

    return await run_connected(request, work, body.timeout_ms)
