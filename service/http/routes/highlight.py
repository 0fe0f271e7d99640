"""`/v1/highlight`: the sentences that answer, for OpenSearch's semantic highlighter."""

from __future__ import annotations

from fastapi import Request, Response

from tamis.service.http.routes.base import (
    WARNINGS_RESPONSES,
    create_router,
    error_responses,
    json_response,
    service_state,
)
from tamis.service.http.routes.compress import compress_all
from tamis.service.http.schemas.dialects.opensearch import (
    HighlightRequest,
    Highlights,
    highlights_of,
)

routes = create_router()


@routes.post(
    "/v1/highlight",
    response_model=Highlights,
    responses=WARNINGS_RESPONSES | error_responses(404),
    summary="The sentences that answer, as a remote model of OpenSearch",
)
async def highlight(body: HighlightRequest, request: Request) -> Response:
    """The spans of sentences whose probability is at least `threshold`, .5 if absent."""
    method = service_state(request).methods.known_model(body.model)
    asked = [body.compress_request(pair, method) for pair in body.pairs()]
    found = await compress_all(request, asked)
    lists = [highlights_of(one) for one in found]
    warnings = [*(w for one in found for w in one.warnings), *body.field_warnings()]
    answer = Highlights(highlights=lists if body.inputs is not None else lists[0])
    return json_response(answer, warnings=list(dict.fromkeys(warnings)))
