"""Answers of a route from the result cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from fastapi import Request, Response

from tamis.service.http.routes.base import log_entry, service_state
from tamis.service.http.runtime.result_cache import KeptResult
from tamis.service.http.schemas.base import WARNINGS_HEADER
from tamis.service.http.schemas.json import MEDIA_TYPE

HEADER = "X-Tamis-Result-Cache"
RESPONSES: dict[str, Any] = {
    HEADER: {
        "description": "Whether the answer was kept from an earlier, same request; only where the "
        "service has a result cache.",
        "schema": {"type": "string", "enum": ["hit", "miss"]},
    }
}


async def answer_from_cache(request: Request, make: Callable[[], Awaitable[Response]]) -> Response:
    """The kept answer to the same request, or the one that `make` makes, which is then kept.

    An answer that another time would have been better is not kept, in whatever shape it was sent:
    one made of what was read by a deadline, or documents returned whole in place of an error.
    """
    state, entry = service_state(request), log_entry(request)
    find_key = partial(state.results.key_of, entry.key, await request.body())
    key = await state.executor.run_off_loop(find_key)
    if (kept := state.results.find(key)) is not None:
        entry.tokens_in, entry.tokens_out = kept.tokens_in, kept.tokens_out
        state.metrics.count_compression(kept.tokens_in, kept.tokens_out, entry.key)
        return Response(
            kept.body, media_type=MEDIA_TYPE, headers=dict([*kept.headers, (HEADER, "hit")])
        )
    answer = await make()
    answer.headers[HEADER] = "miss"
    if not entry.passthrough_codes and not entry.is_partial:
        body = bytes(answer.body)
        headers = tuple((n, answer.headers[n]) for n in (WARNINGS_HEADER,) if n in answer.headers)
        tokens = (entry.tokens_in or 0, entry.tokens_out or 0)
        state.results.keep(key, KeptResult(body, headers, *tokens))
    return answer
