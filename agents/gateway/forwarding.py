"""Requests sent on to the upstream service, and its answers back, chunk by chunk as they come.

All other paths and methods are refused here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncIterator, Iterable
from urllib.parse import quote, unquote_to_bytes, urlsplit

import httpx
from starlette.types import Scope, Send

from tamis.probes.errors import BadInput
from tamis.service.engine.errors import MethodNotAllowed, NotFound, UpstreamBusy
from tamis.service.http.middleware.auth import key_header_of
from tamis.service.http.runtime.settings import Settings, flag, variable
from tamis.service.http.schemas.base import MAX_NAME_CHARS

CHAT_PATHS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
_GEMINI = re.compile(r"/v1beta/models/[A-Za-z0-9][A-Za-z0-9._-]*:(\w+)")
_GEMINI_CHATS = ("generateContent", "streamGenerateContent")
_GEMINI_CALLS = (*_GEMINI_CHATS, "countTokens", "embedContent", "batchEmbedContents")
MODEL_CALLS = frozenset(
    (
        *CHAT_PATHS,
        *("/v1/messages/count_tokens", "/v1/completions", "/v1/embeddings"),
        *("/v1/moderations", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"),
        *("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"),
    )
)
"""Calls of a model: what they are asked is in the body, and with POST alone they are asked. What
reads, lists or deletes (files, batches, stored chats) reaches all that belongs to the key."""
ROOTS = ("/v1/", "/v1beta/models/")
_MAX_PATH_CHARS = 2000
_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_MORE = (
    f"{flag('upstream_paths')} ({variable('upstream_paths')}) of the service names more that are"
)


def is_chat(raw_path: str) -> bool:
    """Whether a path asks a model with a conversation, whose texts may be shortened."""
    return raw_path in CHAT_PATHS or _gemini_call(raw_path) in _GEMINI_CHATS


def _gemini_call(raw_path: str) -> str:
    found = _GEMINI.fullmatch(raw_path)
    return found[1] if found else ""


class ForwardedPaths:
    """The paths that are sent on.

    Args:
        more: paths below `/v1/`, such as `files`; with all below them and with every method.

    Raises:
        BadInput: one of them is no path below `/v1/`.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._prefixes = tuple(_parse_prefix(path) for path in more)

    def check(self, method: str, raw_path: str) -> None:
        """Checks a request.

        Args:
            raw_path: as it was sent, percent-encoded.

        Raises:
            NotFound: the path is not sent on. MethodNotAllowed: not with this method.
        """
        shown = f"{raw_path:.{MAX_NAME_CHARS}}"
        if fault := _path_fault(raw_path):
            raise NotFound(f"{shown} is not sent on to the upstream: {fault}")
        is_added = any(f"{raw_path}/".startswith(f"{prefix}/") for prefix in self._prefixes)
        is_call = raw_path in MODEL_CALLS or _gemini_call(raw_path) in _GEMINI_CALLS
        if not is_added and not is_call:
            raise NotFound(f"{shown} is not sent on to the upstream; {_MORE}")
        methods = _ANY_METHOD if is_added else ("POST",)
        if method not in methods:
            raise MethodNotAllowed(
                f"{shown} is sent on to the upstream with {', '.join(methods)}, not with "
                f"{method:.{MAX_NAME_CHARS}}; {_MORE}, with other methods, too"
            )


def _parse_prefix(given: str) -> str:
    path = given.strip("/").removeprefix("v1/")
    if not _PREFIX.fullmatch(path) or path == "v1":
        raise BadInput(
            f"upstream_paths has {given!r:.{MAX_NAME_CHARS}}; give paths below /v1/ in letters, "
            "digits and ._-, such as files,batches"
        )
    return f"/v1/{path}"


def _path_fault(raw_path: str) -> str:
    """Why a server could read another path in this one; "" if none could."""
    if len(raw_path) > _MAX_PATH_CHARS:
        return f"it has {len(raw_path):,} characters, and {_MAX_PATH_CHARS:,} is the most"
    if "%25" in raw_path:
        return "it has a percent sign that is encoded"
    try:
        data = unquote_to_bytes(raw_path.encode("latin-1", "replace"))
        text = unicodedata.normalize("NFKC", data.decode("utf-8"))
    except UnicodeDecodeError:
        return "it is no UTF-8"
    if any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in text):
        return "it has control characters"
    if "\\" in text or text.count("/") != raw_path.count("/"):
        return "it has a slash that is encoded, or a backslash"
    if "%" in text:
        return "it has a percent sign that encodes nothing, or %u, which some servers decode"
    if "?" in text or "#" in text:
        return "it has a question mark or a number sign"
    segments = (segment.partition(";")[0].strip() for segment in text[1:].split("/"))
    if any(not segment.strip(".") for segment in segments):
        return "it has a segment that is empty or made of dots; leave out a slash at its end"
    return ""


Headers = list[tuple[bytes, bytes]]
_HOP_BY_HOP = {
    *(b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"te"),
    *(b"trailer", b"transfer-encoding", b"upgrade", b"proxy-connection"),
}
_NOT_SENT = {
    *(b"host", b"content-length", b"expect", b"cookie", b"forwarded", b"x-real-ip"),
    # some servers obey these, and not the path or the method that were checked
    *(b"x-original-url", b"x-original-uri", b"x-rewrite-url"),
    *(b"x-http-method-override", b"x-http-method", b"x-method-override"),
}
_NOT_SENT_PREFIXES = (b"x-tamis", b"x-forwarded-")
_OF_AN_ACCOUNT = {
    *(b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"),
    *(b"openai-organization", b"openai-project"),
}
"""Not sent beside a key of ours: they are of the client's own key, or say who pays for ours."""
_NOT_RETURNED = {
    *(b"set-cookie", b"strict-transport-security", b"alt-svc", b"clear-site-data"),
    *(b"date", b"server"),
}
"""They speak of the upstream's host, and browsers would take them to be this one's."""
_NOT_RETURNED_PREFIX = b"access-control-"
"""Which pages may read answers says `cors_origins`."""
POOL_WAIT_S = 5.0
"""How long a chat waits for a connection to the upstream, before it is told to come back."""
_CONNECT_S = 30.0
_LEAST_SECRET = 16
"""Shorter keys are words such as EMPTY, which servers without keys are given."""
_UNPACKED = ("", "identity", "gzip", "deflate")
"""Content codings of errors that are unpacked here, to look for the key."""
_IN_QUERY = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) != "#")


class Upstream:
    """The service of `settings.upstream`, which speaks OpenAI's or Anthropic's API.

    Attributes:
        url: its address, without `/v1`.
        api_key: sent in place of the client's; None: the client's own is sent.
        paths: which are sent on.

    Raises:
        BadInput: the URL is none, or the key cannot be sent in a header.
    """

    def __init__(self, settings: Settings) -> None:
        url, self.api_key = settings.upstream or "", settings.upstream_api_key
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise BadInput(f"upstream is {url!r}; give an address such as https://api.openai.com")
        if self.api_key is not None and not (self.api_key.isascii() and self.api_key.isprintable()):
            raise BadInput(
                "upstream_api_key has a line break or a character that no header can hold; give "
                "the key alone"
            )
        self.url = url.rstrip("/").removesuffix("/v1")
        self.paths = ForwardedPaths(settings.upstream_paths)
        self.max_connections, wait_s = settings.max_connections, settings.upstream_timeout_s
        self._timeout = httpx.Timeout(
            wait_s, connect=min(wait_s, _CONNECT_S), pool=min(wait_s, POOL_WAIT_S)
        )
        limits = httpx.Limits(max_connections=self.max_connections)
        self._client = httpx.AsyncClient(timeout=self._timeout, limits=limits)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def forward(
        self, scope: Scope, raw_path: str, body: bytes, send: Send, added: Headers
    ) -> int:
        """Sends a request on and its answer back. The status.

        Args:
            raw_path: one that was checked; it is sent as it is.
            added: headers for the answer.

        Raises:
            UpstreamBusy: all connections are in use.
            httpx.HTTPError: there is no answer, or it breaks off.
        """
        request = httpx.Request(
            scope["method"],
            f"{self.url}{raw_path}{self._query(scope)}",
            headers=self._request_headers(scope, body),
            content=body,
            extensions={"timeout": self._timeout.as_dict()},
        )
        try:
            response = await self._client.send(request, stream=True, follow_redirects=False)
        except httpx.PoolTimeout:
            raise UpstreamBusy(
                f"all {self.max_connections:,} connections to the upstream are in use; start "
                f"the service with more ({flag('max_connections')})",
                POOL_WAIT_S,
            ) from None
        try:
            coding = response.headers.get("content-encoding", "").lower()
            may_hold_key = self._secret is not None and not response.is_success
            is_masked = may_hold_key and coding in _UNPACKED
            headers = self._answer_headers(response, is_masked)
            start = {"type": "http.response.start", "status": response.status_code}
            await send({**start, "headers": [*headers, *added]})
            chunks = self._chunks_without_key(response) if is_masked else response.aiter_raw()
            async for chunk in chunks:
                if chunk:
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await response.aclose()
        return response.status_code

    @property
    def _secret(self) -> bytes | None:
        """The key, if it is one that must not come back."""
        key = self.api_key
        return None if key is None or len(key) < _LEAST_SECRET else key.encode()

    def _query(self, scope: Scope) -> str:
        """What follows the path; beside a key of ours without Gemini's `key`."""
        parts = scope.get("query_string", b"").split(b"&")
        if self.api_key is not None:
            parts = [p for p in parts if unquote_to_bytes(p.partition(b"=")[0]) != b"key"]
        query = quote(b"&".join(parts), safe=_IN_QUERY)
        return f"?{query}" if query else ""

    def _request_headers(self, scope: Scope, body: bytes) -> Headers:
        gone = _NOT_SENT if self.api_key is None else _NOT_SENT | _OF_AN_ACCOUNT
        headers = [
            (name, value)
            for name, value in _end_to_end(scope["headers"])
            if name not in gone and not name.startswith(_NOT_SENT_PREFIXES)
        ]
        if self.api_key is not None:
            name = key_header_of(scope)
            key = f"Bearer {self.api_key}" if name == b"authorization" else self.api_key
            headers.append((name, key.encode()))
        if self._secret is not None:
            headers = [(n, _codings(v) if n == b"accept-encoding" else v) for n, v in headers]
        if body or scope["method"] in ("POST", "PUT", "PATCH"):
            headers.append((b"content-length", str(len(body)).encode()))
        return headers

    def _answer_headers(self, response: httpx.Response, is_masked: bool) -> Headers:
        gone = _NOT_RETURNED | ({b"content-encoding", b"content-length"} if is_masked else set())
        headers = _end_to_end((name.lower(), value) for name, value in response.headers.raw)
        return [
            (name, self._without_key(value))
            for name, value in headers
            if name not in gone and not name.startswith(_NOT_RETURNED_PREFIX)
        ]

    def _without_key(self, data: bytes) -> bytes:
        """With as many asterisks in its place."""
        secret = self._secret
        return data if secret is None else data.replace(secret, b"*" * len(secret))

    async def _chunks_without_key(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The unpacked body without the key, also where two chunks have a part of it each."""
        secret, held = self._secret or b"", b""
        async for chunk in response.aiter_bytes():
            found = self._without_key(held + chunk)
            most = min(len(secret) - 1, len(found))
            begun = next((n for n in range(most, 0, -1) if found.endswith(secret[:n])), 0)
            held = found[len(found) - begun :]
            yield found[: len(found) - begun]
        yield held


def _codings(accepted: bytes) -> bytes:
    """Chooses the coding that a client accepts and in which errors can be looked through."""
    return b"gzip" if b"gzip" in accepted.lower() else b"identity"


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without those that are of one connection, and those that `Connection` names."""
    given = list(headers)
    named = {n.strip().lower() for k, v in given if k == b"connection" for n in v.split(b",")}
    return [(name, value) for name, value in given if name not in _HOP_BY_HOP | named]
