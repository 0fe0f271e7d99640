"""A client of a tamis service, sync and async.

    with Client("http://localhost:8080") as tamis:
        short = tamis.compress("How are keys rotated?", documents, max_tokens=500)
        short.text, short.usage.output_tokens

A request that was refused with 429 or 503 is sent again after the seconds of `Retry-After`, unless
they are more than `timeout_s`; one whose connection failed, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import httpx

from tamis.service.api.spans import traceparent_headers
from tamis.service.http.schemas.about import Health, Info, Models
from tamis.service.http.schemas.compress import BatchResult, Compression, CompressionList
from tamis.service.http.schemas.dialects.cohere import CohereAnswer
from tamis.service.http.schemas.dialects.score import ScoreAnswer
from tamis.service.http.schemas.expand import Expansion
from tamis.service.http.schemas.explain import Explanation
from tamis.service.http.schemas.json import dumps
from tamis.service.http.schemas.search import SearchAnswer
from tamis.service.integrations.client_requests import (
    ClientConnection,
    Documents,
    M,
    ServiceError,
    compress_body,
    expand_body,
    parse_answer,
    rerank_body,
    score_body,
    search_body,
)

__all__ = ["AsyncClient", "Client", "ServiceError"]


class Client(ClientConnection):
    """A synchronous client.

    Args:
        base_url: such as http://localhost:8080.
        api_key: if the service has keys.
        timeout_s: the time limit of each try, and of a wait that the service asks for between two.
        retries: how often a request is sent again.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s, retries)
        self._http = httpx.Client(**self.http_options, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def compress(self, query: str, documents: Documents, **fields: Any) -> Compression:
        """`POST /v1/compress`; fields as there, such as `max_tokens`.

        Raises:
            ServiceError: with the service's message.
        """
        return self._post("/v1/compress", compress_body(query, documents, fields), Compression)

    def compress_each(
        self, queries: Sequence[str], documents: Documents, **fields: Any
    ) -> CompressionList:
        """Many questions on the same documents, as `POST /v1/compress` with `queries`."""
        return self._post(
            "/v1/compress", compress_body(queries, documents, fields), CompressionList
        )

    def compress_batch(self, inputs: Sequence[Mapping[str, Any]]) -> BatchResult:
        """Many requests in one call; each has an answer or an error."""
        return self._post("/v1/compress/batch", {"inputs": list(inputs)}, BatchResult)

    def explain(self, query: str, documents: Documents, **fields: Any) -> Explanation:
        """`compress`, with every sentence and its score."""
        return self._post("/v1/explain", compress_body(query, documents, fields), Explanation)

    def rerank(
        self, query: str, documents: Sequence[str], *, spans: bool = False, **fields: Any
    ) -> CohereAnswer:
        """`POST /v2/rerank`; with `spans`, says which parts of each document answer."""
        body = rerank_body(query, documents, spans, fields)
        return self._post("/v2/rerank", body, CohereAnswer)

    def score(self, query: str, texts: Sequence[str], **fields: Any) -> ScoreAnswer:
        """`POST /score`: one score for each text, independent of the other texts."""
        return self._post("/score", score_body(query, texts, fields), ScoreAnswer)

    def search(
        self,
        query: str,
        k: int = 10,
        *,
        index: str | None = None,
        where: Mapping[str, Any] | None = None,
        search: str = "auto",
    ) -> SearchAnswer:
        """Passages of an index; `search` says how its keys are searched."""
        body = search_body(query, k, index, where, search)
        return self._post("/v1/search", body, SearchAnswer)

    def expand(
        self, documents: Documents, spans: Sequence[Mapping[str, Any]], neighbours: int = 1
    ) -> Expansion:
        """The text around spans (`index`, `start`, `end`) of an answer, in whole sentences."""
        return self._post("/v1/expand", expand_body(documents, spans, neighbours), Expansion)

    def models(self) -> Models:
        """The values that `model` may have."""
        return self._call("GET", "/v1/models", None, Models)

    def info(self) -> Info:
        """The service's model, methods and limits."""
        return self._call("GET", "/info", None, Info)

    def health(self) -> Health:
        """Whether the service is ready.

        Raises:
            ServiceError: it is not ready.
        """
        return self._call("GET", "/readyz", None, Health)

    def _post(self, path: str, body: Any, kind: type[M]) -> M:
        return self._call("POST", path, dumps(body), kind)

    def _call(self, verb: str, path: str, content: bytes | None, kind: type[M]) -> M:
        retry_pauses = self.retry_pauses()
        while True:
            try:
                answer: Any = self._http.request(
                    verb, path, content=content, headers=traceparent_headers()
                )
            except httpx.HTTPError as error:
                answer = error
            pause_s = self.retry_wait_s(answer, retry_pauses)
            if pause_s is None:
                return parse_answer(answer, kind, self.http_options["base_url"])
            time.sleep(pause_s)


class AsyncClient(ClientConnection):
    """`Client` for asyncio: the same calls, the same answers."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s, retries)
        self._http = httpx.AsyncClient(**self.http_options, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def compress(self, query: str, documents: Documents, **fields: Any) -> Compression:
        """As `Client.compress`."""
        body = compress_body(query, documents, fields)
        return await self._post("/v1/compress", body, Compression)

    async def compress_each(
        self, queries: Sequence[str], documents: Documents, **fields: Any
    ) -> CompressionList:
        """As `Client.compress_each`."""
        body = compress_body(queries, documents, fields)
        return await self._post("/v1/compress", body, CompressionList)

    async def compress_batch(self, inputs: Sequence[Mapping[str, Any]]) -> BatchResult:
        """As `Client.compress_batch`."""
        return await self._post("/v1/compress/batch", {"inputs": list(inputs)}, BatchResult)

    async def explain(self, query: str, documents: Documents, **fields: Any) -> Explanation:
        """As `Client.explain`."""
        body = compress_body(query, documents, fields)
        return await self._post("/v1/explain", body, Explanation)

    async def rerank(
        self, query: str, documents: Sequence[str], *, spans: bool = False, **fields: Any
    ) -> CohereAnswer:
        """As `Client.rerank`."""
        body = rerank_body(query, documents, spans, fields)
        return await self._post("/v2/rerank", body, CohereAnswer)

    async def score(self, query: str, texts: Sequence[str], **fields: Any) -> ScoreAnswer:
        """As `Client.score`."""
        return await self._post("/score", score_body(query, texts, fields), ScoreAnswer)

    async def search(
        self,
        query: str,
        k: int = 10,
        *,
        index: str | None = None,
        where: Mapping[str, Any] | None = None,
        search: str = "auto",
    ) -> SearchAnswer:
        """As `Client.search`."""
        body = search_body(query, k, index, where, search)
        return await self._post("/v1/search", body, SearchAnswer)

    async def expand(
        self, documents: Documents, spans: Sequence[Mapping[str, Any]], neighbours: int = 1
    ) -> Expansion:
        """As `Client.expand`."""
        return await self._post("/v1/expand", expand_body(documents, spans, neighbours), Expansion)

    async def models(self) -> Models:
        """As `Client.models`."""
        return await self._call("GET", "/v1/models", None, Models)

    async def info(self) -> Info:
        """As `Client.info`."""
        return await self._call("GET", "/info", None, Info)

    async def health(self) -> Health:
        """As `Client.health`."""
        return await self._call("GET", "/readyz", None, Health)

    async def _post(self, path: str, body: Any, kind: type[M]) -> M:
        return await self._call("POST", path, dumps(body), kind)

    async def _call(self, verb: str, path: str, content: bytes | None, kind: type[M]) -> M:
        retry_pauses = self.retry_pauses()
        while True:
            try:
                answer: Any = await self._http.request(
                    verb, path, content=content, headers=traceparent_headers()
                )
            except httpx.HTTPError as error:
                answer = error
            pause_s = self.retry_wait_s(answer, retry_pauses)
            if pause_s is None:
                return parse_answer(answer, kind, self.http_options["base_url"])
            await asyncio.sleep(pause_s)
