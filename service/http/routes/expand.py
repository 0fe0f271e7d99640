"""`/v1/expand`: what was left out around a span."""

from __future__ import annotations

from fastapi import Request, Response

from tamis.probes.errors import BadInput
from tamis.service.engine.request import Ticket
from tamis.service.http.routes.base import answer, answers, check, house_of, router
from tamis.service.http.runtime.executor import attended
from tamis.service.http.schemas.expand import ExpandRequest, Expansion, expansion

routes = router()


@routes.post(
    "/v1/expand",
    response_model=Expansion,
    responses=answers(),
    summary="Fetch what was left out around spans, by whole sentences",
)
async def expand(body: ExpandRequest, request: Request) -> Response:
    """Grows spans of documents to whole sentences and to their neighbours; no model is asked."""
    house, texts = house_of(request), body.texts()
    check(house.settings, [body.query or ""], len(texts), sum(map(len, texts)))
    if len(body.spans) > (most := house.settings.max_inputs):
        raise BadInput(f"{len(body.spans)} spans were given and {most} is the most")

    def work(_: Ticket) -> Expansion:
        return expansion(body)

    return answer(await attended(request.receive, house.desk.run(work, 0)))
