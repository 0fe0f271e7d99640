"""Requests sent on to the upstream service, and its answers back, chunk by chunk as they come."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

import httpx
from starlette.types import Scope, Send

from tamis.probes.errors import BadInput

Headers = list[tuple[bytes, bytes]]
_HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"),
    *(b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"),
}
_OURS = b"x-tamis"


class Upstream:
    """A service that speaks OpenAI's or Anthropic's API.

    Args:
        url: its address, with or without `/v1`.
        api_key: sent in place of the client's; None: the client's own is sent.
        timeout_s: for its answer to begin, and between two chunks.

    Raises:
        BadInput: the URL is none.
    """

    def __init__(self, url: str, api_key: str | None, timeout_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise BadInput(f"upstream is {url!r}; give an address such as https://api.openai.com")
        self.url = url.rstrip("/").removesuffix("/v1")
        self.api_key = api_key
        self._timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, 30.0))
        self._client = httpx.AsyncClient(timeout=self._timeout)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def forward(self, scope: Scope, body: bytes, send: Send, added: Headers) -> int:
        """Sends a request on and its answer back. The status.

        Args:
            added: headers for the answer.

        Raises:
            httpx.HTTPError: there is no answer, or it breaks off.
        """
        query = scope.get("query_string", b"").decode("latin-1")
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").split("?")[0]
        request = httpx.Request(
            scope["method"],
            f"{self.url}{path}" + (f"?{query}" if query else ""),
            headers=self._request_headers(scope, body),
            content=body,
            extensions={"timeout": self._timeout.as_dict()},
        )
        response = await self._client.send(request, stream=True)
        try:
            headers = [(n.lower(), v) for n, v in response.headers.raw]
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": [*_end_to_end(headers), *added]})
            async for chunk in response.aiter_raw():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()
        return response.status_code

    def _request_headers(self, scope: Scope, body: bytes) -> Headers:
        gone = {b"host", b"content-length", b"expect"}
        if self.api_key is not None:
            gone |= {b"authorization", b"x-api-key"}
        headers = [
            (name, value)
            for name, value in _end_to_end(scope["headers"])
            if name not in gone and not name.startswith(_OURS)
        ]
        if self.api_key is not None:
            headers.append(_key_header(scope["headers"], self.api_key))
        if body or scope["method"] in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", str(len(body)).encode()))
        return headers


def _key_header(sent: Headers, key: str) -> tuple[bytes, bytes]:
    """The key in the header that the client has for its own."""
    if any(name == b"x-api-key" for name, _ in sent):
        return b"x-api-key", key.encode()
    return b"authorization", f"Bearer {key}".encode()


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without those that are of one connection, and those that `Connection` names."""
    given = list(headers)
    named = {n.strip().lower() for k, v in given if k == b"connection" for n in v.split(b",")}
    return [(name, value) for name, value in given if name not in _HOP_BY_HOP | named]
