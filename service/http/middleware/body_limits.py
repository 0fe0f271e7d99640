"""The third layer: receives and decompresses bodies, with limits of size and time."""

from __future__ import annotations

import asyncio
import email.message
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.service.engine.errors import (
    AmbiguousLength,
    ClientDisconnected,
    Malformed,
    Overloaded,
    Refused,
    SlowBody,
    TooLarge,
    WrongMediaType,
)
from tamis.service.http.middleware.request_log import error_response
from tamis.service.http.runtime.executor import request_bytes, request_fingerprint

_GZIP_WINDOW_BITS = 31  # zlib's value for a gzip header and the largest window
_IDENTITY_CODINGS, _GZIP_CODINGS = ("", "identity"), ("gzip", "x-gzip")
_CHUNK_BYTES, _MAX_MEMBERS = 1 << 16, 1000
MAX_HELD_BYTES = 1 << 30
"""All bodies that are here at a time have at most so many, from arrival to the answer's end."""
_DRAIN_BYTES, _DRAIN_S = 1 << 26, 10.0
"""How much of a refused body is received, and for how long. A client that only sends does not read
the answer, and a connection that is closed on unread bytes is reset, with the answer lost."""


class FramingMiddleware:
    """ASGI middleware: refuses a request whose length is given in two ways.

    Servers that believe different headers see different requests in the same bytes (RFC 9112, 6.1).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it and closes the connection."""
        if scope["type"] == "http":
            names = [name for name, _ in scope["headers"]]
            if b"transfer-encoding" in names and b"content-length" in names:
                error = AmbiguousLength(
                    "the request has both Content-Length and Transfer-Encoding; send one"
                )
                await refuse_body(error, scope, receive, send)
                return
        await self.app(scope, receive, send)


class BodyRoom:
    """How many bytes of bodies are here at a time, of all requests that arrive or are served."""

    def __init__(self, max_bytes: int = MAX_HELD_BYTES) -> None:
        self.max_bytes, self.held_bytes = max_bytes, 0

    def of_request(self) -> HeldBytes:
        """The part of one request; nothing yet."""
        return HeldBytes(self)


@dataclass(slots=True)
class HeldBytes:
    """The bytes of one request's body, of those that may be held for all."""

    room: BodyRoom
    size: int = 0

    def add(self, size: int) -> None:
        """Takes room for so many bytes.

        Raises:
            Overloaded: with these, too many bytes are held.
        """
        if self.room.held_bytes + size > self.room.max_bytes:
            raise Overloaded(
                f"bodies of {self.room.held_bytes:,} bytes are here, and {self.room.max_bytes:,} "
                "is the most",
                1.0,
            )
        self.room.held_bytes += size
        self.size += size

    def counting(self, receive: Receive) -> Receive:
        """A `receive` that takes room for what comes."""

        async def receive_and_count() -> Message:
            message = await receive()
            self.add(len(message.get("body", b"")))
            return message

        return receive_and_count

    def release(self) -> None:
        """Gives the room back."""
        self.room.held_bytes -= self.size
        self.size = 0


class BodyLimitMiddleware:
    """ASGI middleware: reads bodies of POST, PUT and PATCH requests before the routes do."""

    def __init__(self, app: ASGIApp, max_bytes: int, timeout_s: float, room: BodyRoom) -> None:
        self.app, self.max_bytes, self.timeout_s, self.room = app, max_bytes, timeout_s, room

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses its body."""
        if scope["type"] != "http" or scope["method"] not in ("POST", "PUT", "PATCH"):
            await self.app(scope, receive, send)
            return
        held = self.room.of_request()
        try:
            await self._serve(held, scope, receive, send)
        finally:
            held.release()

    async def _serve(self, held: HeldBytes, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            headers = dict(scope["headers"])
            _check_content_type(headers.get(b"content-type", b""))
            body = await self._read_body(headers, held.counting(receive))
            held.add(max(0, len(body) - held.size))  # what it grew by where it was packed
        except Refused as error:
            await refuse_body(error, scope, receive, send)
            return
        _replace_headers(scope, len(body))
        request_fingerprint.set(hash(body))
        request_bytes.set(len(body))
        await self.app(scope, _receive_body(body, receive), send)

    async def _read_body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        coding = headers.get(b"content-encoding", b"").decode("latin-1").strip().lower()
        if coding not in (*_IDENTITY_CODINGS, *_GZIP_CODINGS):
            raise WrongMediaType(f"Content-Encoding is {coding!r}; send gzip or nothing")
        length = headers.get(b"content-length", b"0")
        packed = await receive_all(
            length, receive, self.max_bytes, self.timeout_s, self._too_large_error
        )
        if coding in _IDENTITY_CODINGS:
            return packed
        return await asyncio.to_thread(self._decompress, packed)

    def _decompress(self, packed: bytes) -> bytes:
        """Decompresses gzip; never produces more than one byte over the limit.

        Works in chunks: zlib copies what follows a member, and there may be many members.
        """
        parts: list[bytes] = []
        left, members = self.max_bytes + 1, 1
        stream = zlib.decompressobj(_GZIP_WINDOW_BITS)
        for start in range(0, len(packed), _CHUNK_BYTES):
            piece = packed[start : start + _CHUNK_BYTES]
            while piece:
                if stream.eof:
                    stream, members = zlib.decompressobj(_GZIP_WINDOW_BITS), members + 1
                if members > _MAX_MEMBERS:
                    raise Malformed(f"the gzipped body has over {_MAX_MEMBERS:,} members")
                try:
                    parts.append(stream.decompress(piece, left))
                except zlib.error as error:
                    raise Malformed(f"the body is not gzip ({error})") from None
                left -= len(parts[-1])
                if left <= 0:
                    raise self._too_large_error(self.max_bytes + 1)
                piece = stream.unused_data
        if packed and not stream.eof:
            raise Malformed("the gzipped body ends too soon")
        return b"".join(parts)

    def _too_large_error(self, size: int) -> TooLarge:
        return TooLarge(
            f"the body has at least {size:,} bytes and {self.max_bytes:,} is the most; "
            "send fewer documents at a time"
        )


async def receive_all(
    length: bytes,
    receive: Receive,
    max_bytes: int,
    timeout_s: float,
    too_large_error: Callable[[int], TooLarge],
) -> bytes:
    """The body of a request, as it was sent.

    Args:
        length: what the header says that it has.
        too_large_error: for a body that has at least so many bytes, more than `max_bytes`.

    Raises:
        ClientDisconnected: before all of it came. TooLarge: it has more bytes, or says so.
        SlowBody: it took longer than `timeout_s`.
    """
    if length.isdigit() and int(length) > max_bytes:
        raise too_large_error(int(length))
    parts, size, more = [], 0, True
    try:
        async with asyncio.timeout(timeout_s):
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientDisconnected("the client hung up")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                more = message.get("more_body", False)
                if size > max_bytes:
                    raise too_large_error(size)
    except TimeoutError:
        raise SlowBody(f"the body took longer than {timeout_s:g} s to arrive") from None
    return b"".join(parts)


async def refuse_body(error: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers a request whose body is not wanted, or came no further, and closes the connection."""
    answer = error_response(scope, error)
    answer.headers["Connection"] = "close"  # the rest of the body is not parsed
    if isinstance(error, TooLarge | WrongMediaType) and not _awaits_continue(scope):
        send = _drain_before_close(receive, send)
    await answer(scope, receive, send)


def _check_content_type(given: bytes) -> None:
    """Refuses a Content-Type other than JSON, and none: with either, pages of any origin may send
    a body unasked."""
    if not given:
        raise WrongMediaType("Content-Type is missing; send application/json")
    message = email.message.Message()
    message["content-type"] = given.decode("latin-1")
    kind = message.get_content_type()
    if not (kind == "application/json" or kind.endswith("+json")):
        raise WrongMediaType(f"Content-Type is {kind!r}; send application/json")


def _replace_headers(scope: Scope, length: int) -> None:
    """Replaces the headers that described the body as it was sent."""
    gone = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
    headers = [(name, value) for name, value in scope["headers"] if name not in gone]
    headers += [(b"content-length", str(length).encode()), (b"content-type", b"application/json")]
    scope["headers"] = headers


def _awaits_continue(scope: Scope) -> bool:
    """Whether the client sends its body only if it is told to."""
    return any(n == b"expect" and v.lower() == b"100-continue" for n, v in scope["headers"])


def _drain_before_close(receive: Receive, send: Send) -> Send:
    """A `send` that receives a bounded rest of the body before it ends the response.

    The whole answer is on its way before that, for clients that read while they send.
    """

    async def send_then_drain(message: Message) -> None:
        if message["type"] != "http.response.body" or message.get("more_body"):
            await send(message)
            return
        await send({**message, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await _drain(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return send_then_drain


async def _drain(receive: Receive) -> None:
    size, more = 0, True
    while more and size < _DRAIN_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


def _receive_body(body: bytes, receive: Receive) -> Receive:
    """A `receive` that returns the body at once and then waits for the client to disconnect."""
    given = False

    async def receive_next() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_next
