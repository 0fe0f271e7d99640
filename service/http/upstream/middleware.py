"""The layer before the body's: requests for the upstream service never reach the routes."""

from __future__ import annotations

from dataclasses import dataclass

import httpx
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.probes.errors import BadInput
from tamis.service.engine.errors import ClientDisconnected, TooLarge
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.middleware.body_limits import receive_all
from tamis.service.http.middleware.request_log import error_response, log_entry_of
from tamis.service.http.runtime.errors import failure_of
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.schemas.base import warnings_header
from tamis.service.http.schemas.fields import WARNINGS_HEADER
from tamis.service.http.schemas.json import JsonResponse
from tamis.service.http.upstream.forwarding import Headers, Upstream
from tamis.service.http.upstream.shortening import ChatOptions, ChatShortener, ShortChat

CHAT_PATHS = ("/v1/chat/completions", "/v1/messages")
MAX_BODY_BYTES = 64 << 20
"""More than providers take; our own limit is for bodies that are read here."""
_STATUS, _SAVED = b"x-tamis-status", b"x-tamis-tokens-saved"
_WARNINGS = WARNINGS_HEADER.lower().encode()


@dataclass(frozen=True, slots=True)
class _ForwardedRoute:
    """What the log and the meters call the route; clients choose the other paths."""

    path: str


class UpstreamMiddleware:
    """ASGI middleware: forwards chats and all of `/v1/` that this service does not know.

    On any error of ours a chat is forwarded as it came. Headers of a request: `X-Tamis: off`
    forwards it as it came, `X-Tamis-Ratio` and `X-Tamis-Method` say how far results are shortened.
    Headers of the answer: `X-Tamis-Status` is `shortened`, `unchanged`, `off` or `failed`, with
    `X-Tamis-Tokens-Saved`, and `X-Tamis-Warnings` where tags around retrieved context are broken.
    """

    def __init__(
        self, app: ASGIApp, upstream: Upstream, settings: Settings, tags: RetrievalTags
    ) -> None:
        self.app, self.upstream, self.settings = app, upstream, settings
        self.shortener = ChatShortener(tags)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or forwards it."""
        if scope["type"] != "http" or not _is_forwarded(scope):
            await self.app(scope, receive, send)
            return
        known = scope["path"] in CHAT_PATHS
        scope["route"] = _ForwardedRoute(scope["path"] if known else "upstream")
        has_begun = False

        async def note_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            body = await receive_all(receive, MAX_BODY_BYTES, _too_large_error)
            await run_while_connected(receive, self._forward(scope, body, note_begin))
        except TooLarge as error:
            await error_response(scope, error)(scope, receive, send)
        except ClientDisconnected:
            return
        except httpx.HTTPError as error:
            if has_begun:
                raise  # the connection breaks off, as the upstream's did
            await _unreachable_response(error, self.upstream.url)(scope, receive, send)

    async def _forward(self, scope: Scope, body: bytes, send: Send) -> None:
        headers = dict(scope["headers"])
        status, short = "off", ShortChat(body)
        is_chat = scope["path"] in CHAT_PATHS and scope["method"] == "POST"
        if is_chat and headers.get(b"x-tamis", b"").lower() != b"off":
            status, short = await self._shorten(scope, headers, body)
        saved = short.tokens_before - short.tokens_after
        added: Headers = [(_STATUS, status.encode()), (_SAVED, str(saved).encode())]
        if short.warnings:
            added.append((_WARNINGS, warnings_header(short.warnings).encode()))
        await self.upstream.forward(scope, short.body, send, added if is_chat else [])

    async def _shorten(
        self, scope: Scope, headers: dict[bytes, bytes], body: bytes
    ) -> tuple[str, ShortChat]:
        """The body with shorter results, or as it came; and which of the two."""
        entry, state = log_entry_of(scope), scope["app"].state.service_state
        try:
            options = self._options(headers)
            short = await self.shortener.shorten(state, body, options, entry)
        except Exception as error:
            state.metrics.fallbacks.labels("upstream").inc()
            entry.passthrough_codes.append(failure_of(error).code)
            entry.add_fault(error)
            return "failed", ShortChat(body)
        entry.tokens_in, entry.tokens_out = short.tokens_before, short.tokens_after
        state.metrics.count_compression(short.tokens_before, short.tokens_after, entry.key)
        return ("unchanged" if short.body is body else "shortened"), short

    def _options(self, headers: dict[bytes, bytes]) -> ChatOptions:
        """The options of a request.

        Raises:
            BadInput: a header that cannot be followed.
        """
        if coding := headers.get(b"content-encoding"):
            raise BadInput(f"the body is packed ({coding!r}); it is forwarded as it came")
        ratio = headers.get(b"x-tamis-ratio")
        method = headers.get(b"x-tamis-method")
        try:
            share = None if ratio is None else float(ratio)
        except ValueError:
            raise BadInput(f"X-Tamis-Ratio is {ratio!r}; give a share such as 0.3") from None
        if share is not None and not 0 < share <= 1:
            raise BadInput(f"X-Tamis-Ratio is {share}; give a share above 0 and up to 1")
        return ChatOptions(
            share,
            None if method is None else method.decode("latin-1"),
            self.settings.upstream_cached,
            self.settings.upstream_compress_s,
        )


def _is_forwarded(scope: Scope) -> bool:
    path: str = scope["path"]
    if path in CHAT_PATHS:
        return True
    if not path.startswith("/v1/") or scope["method"] == "OPTIONS":
        return False
    return all(route.matches(scope)[0] is Match.NONE for route in scope["app"].routes)


def _too_large_error(size: int) -> TooLarge:
    return TooLarge(f"the body has at least {size:,} bytes and {MAX_BODY_BYTES:,} is the most")


def _unreachable_response(error: httpx.HTTPError, url: str) -> JsonResponse:
    """502, or 504 where it took too long, as OpenAI's clients read it."""
    is_late = isinstance(error, httpx.TimeoutException)
    message = f"{url} did not answer ({type(error).__name__}: {error})"
    code = "upstream_timeout" if is_late else "upstream_unreachable"
    fields = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return JsonResponse({"error": fields}, 504 if is_late else 502)
