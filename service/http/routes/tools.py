"""`/v1/tools/rank`: which of many tool definitions a request needs."""

from __future__ import annotations

from fastapi import Request, Response

from tamis.service.api.rank_tools import ToolDefinition, read_tools
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    run_connected,
    service_state,
)
from tamis.service.http.schemas.search import (
    RankedToolAnswer,
    RankedToolsAnswer,
    RankToolsRequest,
)

routes = create_router()


@routes.post(
    "/v1/tools/rank",
    response_model=RankedToolsAnswer,
    responses=error_responses(),
    summary="Choose among many tools",
)
async def rank_tools(body: RankToolsRequest, request: Request) -> Response:
    """The tools that fit what is asked, best first, and whether any of them does.

    They are read by name, description and parameters. No proxy reads, and what was read of a tool
    is kept. A request is admitted like others, and has no answer before its end.
    """
    state = service_state(request)

    def read() -> tuple[str, list[ToolDefinition]]:
        return body.asked, read_tools(body.tools)

    asked, tools = await state.executor.run_off_loop(read)
    check_limits(state.settings, [asked], len(tools), sum(len(tool.whole) for tool in tools))

    def work(_: QueuedRequest) -> Response:
        found = state.methods.tool_ranker().rank(
            asked, tools, top_n=body.top_n, threshold=body.threshold, language=body.language
        )
        ranked = [
            RankedToolAnswer(index=r.index, name=r.name, score=r.score) for r in found.results
        ]
        return json_response(
            RankedToolsAnswer(
                data=ranked, fits=found.fits, encoder=found.encoder, warnings=list(found.warnings)
            )
        )

    return await run_connected(request, work, body.timeout_ms)
