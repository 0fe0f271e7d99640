"""`/v1/search`: passages of an index that was opened at the start."""

from __future__ import annotations

import asyncio
from functools import partial

from fastapi import Request, Response

from tamis.service.http.routes.base import answer, answers, check, house_of, router
from tamis.service.http.runtime.executor import attended
from tamis.service.http.schemas.search import SearchAnswer, SearchRequest, search_answer

routes = router()


@routes.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=answers(404, 501),
    summary="Find passages in an index",
)
async def search(body: SearchRequest, request: Request) -> Response:
    """The passages of an index that the question would attend to most."""
    house = house_of(request)
    name, index = house.index(body.index)
    check(house.settings, [body.query], 0)
    looked = partial(index.search, body.query, body.k, body.where, by=body.by)
    hits = await attended(request.receive, asyncio.to_thread(looked))
    return answer(search_answer(name, hits))
