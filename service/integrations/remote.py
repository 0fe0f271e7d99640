"""A tamis server as a backend: only questions, titles and texts are sent, never metadata."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.api.option_fields import request_fields
from tamis.service.integrations.backend import (
    CompressedContext,
    CompressionPlan,
    Excerpt,
    RankingPlan,
    order_parts,
)
from tamis.text.language import AUTO
from tamis.text.types import Passage

try:
    from tamis.service.http.schemas.about import Info, Limits
    from tamis.service.http.schemas.compress import Compression, DocumentResult
    from tamis.service.http.schemas.dialects.cohere import CohereAnswer
    from tamis.service.http.schemas.dialects.vendors import ScoreAnswer
    from tamis.service.integrations.client import AsyncClient, Client, ServiceError
except ModuleNotFoundError as error:
    raise MissingExtra(
        f'base_url needs {error.name}, which is not installed; pip install "tamis[service]"'
    ) from error


_INFO_LIFETIME_S = 30.0
"""Seconds for which a server's `/info` is kept before it is fetched again."""
_MAX_PAUSED_LOOPS = 16
"""Event loops that do not run at the moment and whose connections are kept all the same."""


@lru_cache(maxsize=32)
def remote_backend(pid: int, base_url: str, api_key: str | None, timeout_s: float) -> RemoteBackend:
    """The backend for a server's address, with its open connections; threads share it.

    Processes do not, so `pid` is the caller's: on a connection that was open when one forked, each
    would get the answers of the other.
    """
    return RemoteBackend(base_url, api_key, timeout_s)


class RemoteBackend:
    """Has a server do the work. A refusal or a failed connection is a `ServiceError`."""

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        self._address = (base_url, api_key)
        self._timeout_s = timeout_s
        self._client = Client(*self._address, timeout_s=timeout_s)
        self._loop_clients: dict[
            asyncio.AbstractEventLoop, tuple[AsyncClient, AsyncGenerator[None]]
        ] = {}
        self._lock = threading.Lock()
        self._info: tuple[float, Info] | None = None

    def compress(
        self, question: str, passages: Sequence[Passage], plan: CompressionPlan
    ) -> CompressedContext:
        """What is kept of each passage."""
        found = self._client.compress(
            question, _request_documents(passages), **_request_fields(plan)
        )
        return _compressed_context(found, passages, plan)

    async def acompress(
        self, question: str, passages: Sequence[Passage], plan: CompressionPlan
    ) -> CompressedContext:
        """`compress` without blocking the event loop; cancellation drops the request."""
        client = await self._client_for_this_loop()
        found = await client.compress(
            question, _request_documents(passages), **_request_fields(plan)
        )
        return _compressed_context(found, passages, plan)

    def rank(self, question: str, texts: Sequence[str], plan: RankingPlan) -> tuple[float, ...]:
        """One score for each text, from 0 to 1, in the order of the texts.

        As in this process, texts are read together; where there are more than the server takes in
        one request, each is scored alone.

        Raises:
            ServiceError: the server has no such method; it would silently use its default.
        """
        limits = self._check_method(self._recent_info() or self._client.info(), plan.method)
        if len(texts) <= limits.max_documents:
            return _scores_in_order(self._client.rerank(question, texts, **_ranking_fields(plan)))
        parts = _request_slices(texts, limits)
        return _join_scores(
            self._client.score(question, part, **_ranking_fields(plan)) for part in parts
        )

    async def arank(
        self, question: str, texts: Sequence[str], plan: RankingPlan
    ) -> tuple[float, ...]:
        """`rank` without blocking the event loop; cancellation drops the request."""
        client = await self._client_for_this_loop()
        limits = self._check_method(self._recent_info() or await client.info(), plan.method)
        if len(texts) <= limits.max_documents:
            return _scores_in_order(await client.rerank(question, texts, **_ranking_fields(plan)))
        parts = _request_slices(texts, limits)
        return _join_scores(
            [await client.score(question, part, **_ranking_fields(plan)) for part in parts]
        )

    def _recent_info(self) -> Info | None:
        fetched = self._info
        return fetched[1] if fetched and time.monotonic() - fetched[0] < _INFO_LIFETIME_S else None

    def _check_method(self, info: Info, method: str) -> Limits:
        """The server's limits for one request; keeps `info` for later requests.

        Raises:
            ServiceError: the server has no such method.
        """
        if self._recent_info() is not info:
            self._info = (time.monotonic(), info)
        if method not in (*info.methods, "default", info.model_id):
            raise ServiceError(
                f"there is no method {method!r} at {self._address[0]}; give one of "
                f"{', '.join(info.methods)}, or start it with others by --methods",
                404,
                "model_not_found",
            )
        return info.limits

    async def _client_for_this_loop(self) -> AsyncClient:
        """The client of the running event loop.

        Connections belong to the loop they were opened in, and each `asyncio.run` makes a new loop,
        so each loop has a client of its own, which is closed where the loop ends.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            if (found := self._loop_clients.pop(loop, None)) is not None:
                self._loop_clients[loop] = found  # the one used last comes last
                return found[0]
            client = AsyncClient(*self._address, timeout_s=self._timeout_s)
            closing = _close_at_the_end(client)
            self._loop_clients[loop] = client, closing
            self._forget_loops()
        await anext(closing)
        return client

    def _forget_loops(self) -> None:
        """Drops the clients of loops that ended, and of those that have stood still longest."""
        idle = [loop for loop in self._loop_clients if not loop.is_running()]
        ended = [loop for loop in idle if loop.is_closed()]
        paused = [loop for loop in idle if not loop.is_closed()]
        for loop in (*ended, *paused[: max(0, len(paused) - _MAX_PAUSED_LOOPS)]):
            del self._loop_clients[loop]


async def _close_at_the_end(client: AsyncClient) -> AsyncGenerator[None]:
    """Closes a client when its event loop shuts its generators down, or when this is dropped.

    `asyncio.run` and its like do the former; for the latter, asyncio lets the loop close it if it
    runs again.
    """
    try:
        yield
    finally:
        await client.close()


def _ranking_fields(plan: RankingPlan) -> dict[str, Any]:
    """A plan as fields of `POST /v2/rerank` and `POST /score`.

    Raises:
        BadInput: these paths are other vendors', and take no options of a method.
    """
    if plan.options:
        raise BadInput("a server ranks with its own options; leave options out, or base_url")
    given = {} if plan.language == AUTO else {"language": plan.language}
    return {"model": plan.method, **given}


def _request_documents(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    return [
        {"text": p.text}
        | ({"title": p.title} if p.title else {})
        | ({"metadata": dict(p.metadata)} if p.metadata else {})
        for p in passages
    ]


def _request_fields(plan: CompressionPlan) -> dict[str, Any]:
    """A plan as fields of `POST /v1/compress`; fields that are None are left to the server."""
    given = {
        "method": plan.method,
        "language": plan.language,
        "tokenizer": plan.tokenizer,
        "options": dict(plan.options) or None,
        **asdict(plan.budget),
    }
    sent = {name: value for name, value in given.items() if value is not None}
    return sent | request_fields(plan.rules)


def _compressed_context(
    found: Compression, passages: Sequence[Passage], plan: CompressionPlan
) -> CompressedContext:
    parts = [_excerpt(r, passages[r.index].text) for r in found.results or () if r.text]
    return CompressedContext(
        order_parts(parts, plan.rules.order),
        found.status,
        found.method,
        found.answerability,
        tuple(found.warnings),
        found.model,
        found.verdict,
        found.reason,
        found.calibrated,
    )


def _excerpt(result: DocumentResult, text: str) -> Excerpt:
    """One document's result; spans with only white space between them are joined."""
    spans: list[tuple[int, int]] = []
    for span in result.relevant_spans or ():
        if spans and not text[spans[-1][1] : span.start].strip():
            spans[-1] = (spans[-1][0], span.end)
        else:
            spans.append((span.start, span.end))
    return Excerpt(
        result.index,
        result.text or "",
        tuple(spans),
        result.raw_score,
        result.tokens_before,
        result.tokens_after,
    )


def _scores_in_order(answer: CohereAnswer) -> tuple[float, ...]:
    scores = {result.index: result.relevance_score for result in answer.results}
    return tuple(scores[i] for i in range(len(scores)))


def _request_slices(texts: Sequence[str], limits: Limits) -> Iterator[Sequence[str]]:
    """The texts in slices within the limits of one request, counting each character as a token.

    A text that is longer is a slice of its own, which the server may refuse.
    """
    start, chars = 0, 0
    for stop, text in enumerate(texts):
        full = stop - start == limits.max_documents
        if stop > start and (full or chars + len(text) > limits.max_request_tokens):
            yield texts[start:stop]
            start, chars = stop, 0
        chars += len(text)
    yield texts[start:]


def _join_scores(answers: Iterable[ScoreAnswer]) -> tuple[float, ...]:
    return tuple(
        item.score for answer in answers for item in sorted(answer.data, key=lambda d: d.index)
    )
