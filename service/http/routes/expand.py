"""`/v1/expand`: text that was left out around a span."""

from __future__ import annotations

from fastapi import Request, Response

from tamis.probes.errors import BadInput
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    service_state,
)
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.schemas.expand import ExpandRequest, Expansion, expand_spans

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
    check_limits(state.settings, [body.query or ""], len(sizes), sum(sizes))
    if len(body.spans) > (most := state.settings.max_inputs):
        raise BadInput(f"{len(body.spans)} spans were given and {most} is the most")

    def work(_: QueuedRequest) -> Response:
        return json_response(expand_spans(body))

    running = state.executor.run(work, state.executor.limits(body.timeout_ms))
    return await run_while_connected(request.receive, running)
