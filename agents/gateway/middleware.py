"""The layer before the body's: requests for the upstream service never reach the routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from urllib.parse import quote

import httpx
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.probes.errors import BadInput
from tamis.service.engine.errors import (
    ClientDisconnected,
    ForeignOrigin,
    Refused,
    TooLarge,
    UpstreamBusy,
)
from tamis.service.http.conversation.billing import LIST_PRICES, Prices
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.middleware.body_limits import BodyRoom, receive_all, refuse_body
from tamis.service.http.middleware.request_log import ANONYMOUS, error_response, log_entry_of
from tamis.service.http.runtime.errors import failure_of, message_of
from tamis.service.http.runtime.executor import (
    request_bytes,
    request_fingerprint,
    run_while_connected,
)
from tamis.service.http.runtime.settings import Settings, flag
from tamis.service.http.schemas.base import MAX_NAME_CHARS, WARNINGS_HEADER, warnings_header
from tamis.service.http.schemas.json import JsonResponse
from tamis_agents.gateway.forwarding import CHAT_PATHS, ROOTS, Upstream, is_chat
from tamis_agents.gateway.shortening import ChatOptions, ChatShortener, ShortChat

MAX_BODY_BYTES = 64 << 20
"""More than providers take; our own limit is for bodies that are read here."""
_COUNT = re.compile(r"[1-9][0-9]{0,5}")
_SWITCH, _RATIO, _METHOD = "x-tamis", "x-tamis-ratio", "x-tamis-method"
_TOOLS = "x-tamis-tools"
_READ = (_SWITCH, _RATIO, _METHOD, _TOOLS)
"""The headers of a request that are for this service."""


class Gateway:
    """ASGI middleware: forwards chats and other calls of models that this service does not know.

    On any error of ours a chat is forwarded as it came. Headers of a request: `X-Tamis: off`
    forwards it as it came, `X-Tamis-Ratio` and `X-Tamis-Method` say how far results are shortened,
    `X-Tamis-Tools` how many tools are sent. Headers of the answer: `X-Tamis-Status` is `shortened`,
    `unchanged`, `off` or `failed`, with `X-Tamis-Tokens-Saved` and, of these, those of texts that
    were sent before in `X-Tamis-Tokens-Saved-Again`; `X-Tamis-Superseded` how many results went
    because a later step made them needless; with prices, `X-Tamis-Cost-Saved` what this request
    costs less, below 0 where it pays for later ones; `X-Tamis-Tools` has how many of how many tools
    were sent, `X-Tamis-Tools-Left-Out` names of the others, as many as fit, and `X-Tamis-Warnings`
    what could not be followed.

    It is what `tamis.service.http.app.Gateway` describes.

    Raises:
        BadInput: the upstream's address is none, its key no header can hold, or a tag or a path
            is none.
    """

    app: ASGIApp
    room: BodyRoom

    def __init__(self, settings: Settings) -> None:
        self.settings, self.prices = settings, _prices(settings)
        self.answer_headers = ANSWER_HEADERS
        self.shortener = ChatShortener(RetrievalTags(settings.upstream_retrieval_tags))
        self.upstream = Upstream(settings)

    def layer(self, app: ASGIApp, room: BodyRoom) -> ASGIApp:
        """Stands before an app."""
        self.app, self.room = app, room
        return self

    async def close(self) -> None:
        """Closes the connections to the upstream."""
        await self.upstream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or forwards it."""
        if scope["type"] != "http" or not _is_for_upstream(scope):
            await self.app(scope, receive, send)
            return
        raw_path = _raw_path(scope)
        # what the log and the meters call the route; clients choose the other paths
        scope["route"] = SimpleNamespace(path=_shown_route(raw_path))
        has_begun, held = False, self.room.of_request()

        async def note_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            self.upstream.paths.check(scope["method"], raw_path)
            self._check_origin(scope)
            body = await self._receive_body(scope, held.counting(receive))
            work = self._forward(scope, raw_path, body, note_begin)
            await run_while_connected(receive, work)
        except ClientDisconnected:
            return
        except UpstreamBusy as error:
            await error_response(scope, error)(scope, receive, send)
        except Refused as error:
            await refuse_body(error, scope, receive, send)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if has_begun:
                raise  # the connection breaks off, as the upstream's did
            await _unreachable_response(scope, error)(scope, receive, send)
        finally:
            held.release()

    async def _receive_body(self, scope: Scope, receive: Receive) -> bytes:
        length = dict(scope["headers"]).get(b"content-length", b"0")
        body = await receive_all(
            length, receive, MAX_BODY_BYTES, self.settings.body_timeout_s, _too_large_error
        )
        request_fingerprint.set(hash(body))
        request_bytes.set(len(body))
        return body

    def _check_origin(self, scope: Scope) -> None:
        """Refuses web pages of others where neither they nor their visitors show a key.

        A page may send a chat to this address in its visitor's browser, unasked.

        Raises:
            ForeignOrigin: the page is of another origin, and not of one that `cors_origins` names.
        """
        if self.upstream.api_key is None or log_entry_of(scope).key != ANONYMOUS:
            return
        origins, hosts = (
            [value.decode("latin-1") for name, value in scope["headers"] if name == wanted]
            for wanted in (b"origin", b"host")
        )
        origin, allowed = ", ".join(origins), self.settings.cors_origins
        scheme, _, host = origin.partition("://")
        if not origins or (scheme in ("http", "https") and hosts == [host]):
            return
        if origin not in allowed and ("*" not in allowed or len(origins) > 1):
            raise ForeignOrigin(
                f"a page of {origin!r:.{MAX_NAME_CHARS}} asks for what the service's own key pays "
                f"for; {flag('cors_origins')} names pages that may"
            )

    async def _forward(self, scope: Scope, raw_path: str, body: bytes, send: Send) -> None:
        headers = _header_texts(scope)
        status, short = "off", ShortChat(body)
        may_shorten = is_chat(raw_path)
        if may_shorten and headers.get(_SWITCH, "").lower() != "off":
            status, short = await self._shorten(scope, headers, body)
            short.warnings[:0] = _unknown_header_warnings(headers)
        told = _answer_headers(status, short) if may_shorten else {}
        added = [(n.lower().encode(), value.encode()) for n, value in told.items() if value]

        async def note(message: Message) -> None:
            if message.get("status", 400) < 400 and status in ("shortened", "unchanged"):
                self._count(scope, short)
            await send(message)

        await self.upstream.forward(scope, raw_path, short.body, note, added)

    def _count(self, scope: Scope, short: ShortChat) -> None:
        """Counts what was saved of a chat that the upstream took, and keeps how it was sent."""
        entry, metrics = log_entry_of(scope), scope["app"].state.service_state.metrics
        short.note_sent()
        entry.tokens_in, entry.tokens_out = short.tokens_before, short.tokens_after
        metrics.count_compression(short.tokens_before, short.tokens_after, entry.key)
        metrics.saved_again.labels(entry.key).inc(max(0, short.saved_again))
        if short.costs is not None:
            metrics.cost_before.labels(entry.key).inc(short.costs[0])
            metrics.cost_after.labels(entry.key).inc(short.costs[1])

    async def _shorten(
        self, scope: Scope, headers: dict[str, str], body: bytes
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
            why = f"{message_of(error)}; the chat is sent on as it came"
            return "failed", ShortChat(body, warnings=[why])
        return ("unchanged" if short.body is body else "shortened"), short

    def _options(self, headers: dict[str, str]) -> ChatOptions:
        """The options of a request.

        Raises:
            BadInput: a header that cannot be followed.
        """
        if coding := headers.get("content-encoding"):
            raise BadInput(f"the body is packed ({coding:.80}); it is forwarded as it came")
        ratio = headers.get(_RATIO)
        try:
            share = None if ratio is None else float(ratio)
        except ValueError:
            raise BadInput(f"X-Tamis-Ratio is {ratio!r:.80}; give a share such as 0.3") from None
        if share is not None and not 0 < share <= 1:
            raise BadInput(f"X-Tamis-Ratio is {share}; give a share above 0 and up to 1")
        tools = headers.get(_TOOLS, "")
        if tools and not _COUNT.fullmatch(tools):
            raise BadInput(f"X-Tamis-Tools is {tools!r:.80}; give a number from 1 on, such as 12")
        return ChatOptions(
            share,
            headers.get(_METHOD),
            self.settings.upstream_cached,
            int(tools) if tools else None,
            self.prices,
            self.settings.upstream_cache_s,
        )


def _header_texts(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _answer_headers(status: str, short: ShortChat) -> dict[str, str]:
    """What an answer says of its chat; those that are empty are not sent."""
    gone, costs = len(short.left_out), short.costs
    return {
        "X-Tamis-Status": status,
        "X-Tamis-Tokens-Saved": str(short.tokens_before - short.tokens_after),
        "X-Tamis-Tokens-Saved-Again": str(short.saved_again),
        "X-Tamis-Superseded": str(short.needless or ""),
        "X-Tamis-Cost-Saved": "" if costs is None else f"{costs[0] - costs[1]:.6f}",
        "X-Tamis-Tools": f"{short.tools - gone}/{short.tools}" if gone else "",
        "X-Tamis-Tools-Left-Out": warnings_header(short.left_out) if gone else "",
        WARNINGS_HEADER: warnings_header(short.warnings) if short.warnings else "",
    }


ANSWER_HEADERS = tuple(_answer_headers("", ShortChat(b"")))
"""The names of all headers that answers may have from here."""


def _unknown_header_warnings(headers: dict[str, str]) -> Iterator[str]:
    """The warnings of headers that are meant for this service and change nothing."""
    for name, value in headers.items():
        if name == _SWITCH and value.lower() not in ("", "on", "off"):
            yield f"X-Tamis is {value!r:.80} and has no effect; off is known"
        elif name.startswith(_SWITCH) and name not in _READ:
            known = ", ".join(_READ)
            yield f"the header {name:.80} has no effect: it is not known here; {known} are"


def _prices(settings: Settings) -> Prices | None:
    """The upstream's prices; what is not given is in proportion as in `LIST_PRICES`."""
    price, given = settings.upstream_price, LIST_PRICES
    if price is None:
        return None
    cached, write = settings.upstream_price_cached, settings.upstream_price_cache_write
    cached = price * given.cached if cached is None else cached
    return Prices(price, cached, price * given.write if write is None else write)


def _shown_route(raw_path: str) -> str:
    """What the log and the meters call a path: one that clients cannot make ever more of."""
    if raw_path in CHAT_PATHS:
        return raw_path
    return "/v1beta/models" if is_chat(raw_path) else "upstream"


def _is_for_upstream(scope: Scope) -> bool:
    """Whether a path is an upstream's and none that this service knows, with any method."""
    if not scope["path"].startswith(ROOTS):
        return False
    return all(route.matches(scope)[0] is Match.NONE for route in scope["app"].routes)


def _raw_path(scope: Scope) -> str:
    """The path as it was sent; what a server does not say is encoded anew."""
    raw: bytes | None = scope.get("raw_path")
    return quote(scope["path"]) if raw is None else raw.decode("latin-1").partition("?")[0]


def _too_large_error(size: int) -> TooLarge:
    return TooLarge(f"the body has at least {size:,} bytes and {MAX_BODY_BYTES:,} is the most")


def _unreachable_response(scope: Scope, error: httpx.HTTPError | httpx.InvalidURL) -> JsonResponse:
    """502, or 504 where it took too long, as OpenAI's clients read it.

    The error's own words may have the key or an internal address in them.
    """
    is_late = isinstance(error, httpx.TimeoutException)
    message = f"the upstream did not answer ({type(error).__name__})"
    code = "upstream_timeout" if is_late else "upstream_unreachable"
    log_entry_of(scope).error = code
    fields = {"message": message, "type": "upstream_error", "param": None, "code": code}
    return JsonResponse({"error": fields}, 504 if is_late else 502)
