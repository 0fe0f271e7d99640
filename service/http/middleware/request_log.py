"""The outermost layer: request ids, the request log, metrics, and an answer to every error.

Sizes, times and names of errors are logged; text of a request never is.
"""

from __future__ import annotations

import re
import time
import traceback
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tamis.service.http.runtime.errors import (
    INTERNAL,
    ErrorFormat,
    body_of,
    failure_of,
    headers_of,
    message_of,
)
from tamis.service.http.runtime.memory import IdleMemory
from tamis.service.http.runtime.telemetry import Metrics
from tamis.service.http.schemas.dialects.table import error_format
from tamis.service.http.schemas.json import JsonResponse
from tamis.service.http.schemas.patterns import SearchTime

ANONYMOUS = "anonymous"
"""The owner of requests where no keys are set up."""
REQUEST_ID_HEADER = b"x-request-id"
PASSTHROUGH_HEADER = b"x-tamis-passthrough-reason"
_SAFE_ID = re.compile(rb"[\x21-\x7e]{1,128}")
_UNKNOWN_ROUTE, _FIRST_ERROR_STATUS = "unknown", 400
_SCOPE_KEY = "tamis.log_entry"
_PROBES = ("/livez", "/readyz", "/health", "/ping", "/metrics")
"""What asks all the time and works on nothing."""


@dataclass(slots=True)
class RequestLogEntry:
    """The log entry of one request; filled while it is served.

    Attributes:
        error_format: of its error bodies. key: the name of its key's owner.
        route: the route's pattern, so that there are few of them. error: the code, if any.
        passthrough_codes: codes of errors because of which contexts were returned whole.
        is_partial: whether a part of the answer was cut short by time.
        faults: locations of unforeseen faults, including those that the answer hides.
        search_time: what its patterns have left of it.
    """

    id: str
    error_format: ErrorFormat
    key: str = ANONYMOUS
    route: str = _UNKNOWN_ROUTE
    error: str | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    passthrough_codes: list[str] = field(default_factory=list)
    is_partial: bool = False
    faults: list[dict[str, Any]] = field(default_factory=list)
    search_time: SearchTime = field(default_factory=SearchTime)

    def response_headers(self, status: int) -> list[tuple[bytes, bytes]]:
        """Headers added to an answer with this status."""
        fields = [(REQUEST_ID_HEADER, self.id.encode())]
        if self.passthrough_codes and status < _FIRST_ERROR_STATUS:
            fields.append(
                (PASSTHROUGH_HEADER, ", ".join(dict.fromkeys(self.passthrough_codes)).encode())
            )
        return fields

    def count_partial(self, metrics: Metrics) -> None:
        """Counts an answer that was cut short by time, and marks the request, so that its answer is
        not kept for others."""
        self.is_partial = True
        metrics.fallbacks.labels("partial").inc()

    def add_fault(self, error: Exception) -> None:
        """Records the location of an unforeseen fault; other errors explain themselves."""
        if failure_of(error) is INTERNAL:
            self.faults.append(_fault_location(error))


def log_entry_of(scope: Any) -> RequestLogEntry:
    """The log entry of a request."""
    entry: RequestLogEntry = scope[_SCOPE_KEY]
    return entry


def error_response(scope: Scope, error: Exception, param: str | None = None) -> JsonResponse:
    """The answer to a request that failed, in the format of its dialect."""
    entry, failure = log_entry_of(scope), failure_of(error)
    entry.error = failure.code
    body = body_of(failure, message_of(error), entry.error_format, param)
    return JsonResponse(body, failure.status, headers_of(error))


class RequestLogMiddleware:
    """ASGI middleware: writes the log entry and the metrics of each request."""

    def __init__(self, app: ASGIApp, metrics: Metrics, log: Any, idle: IdleMemory) -> None:
        self.app, self.metrics, self.log, self.idle = app, metrics, log, idle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        entry = scope[_SCOPE_KEY] = RequestLogEntry(_request_id(scope), error_format(scope["path"]))
        began, status, works = time.perf_counter(), 0, scope["path"] not in _PROBES

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name for name, _ in message["headers"]}  # as an upstream service sent it
                ours = [one for one in entry.response_headers(status) if one[0] not in given]
                message = {**message, "headers": [*message["headers"], *ours]}
            await send(message)

        self.idle.requests += works
        try:
            await self.app(scope, receive, send_with_headers)
        except Exception as error:
            entry.add_fault(error)
            if not status:
                await error_response(scope, error)(scope, receive, send_with_headers)
        finally:
            self.idle.requests -= works
            if works:
                self.idle.worked_until = time.monotonic()
            self._log_and_count(scope, entry, status, time.perf_counter() - began)

    def _log_and_count(
        self, scope: Scope, entry: RequestLogEntry, status: int, seconds: float
    ) -> None:
        entry.route = getattr(scope.get("route"), "path", None) or _described_route(scope)
        self.metrics.requests.labels(entry.route, str(status)).inc()
        self.metrics.request_seconds.labels(entry.route).observe(seconds)
        if entry.error is not None:
            self.metrics.refused.labels(entry.error).inc()
        for fault in entry.faults:
            self.log.error("failed", request_id=entry.id, **fault)
        fields = {
            "request_id": entry.id,
            "method": scope["method"],
            "route": entry.route,
            "status": status,
            "ms": round(seconds * 1e3, 1),
            "key": entry.key,
            "error": entry.error,
            "passthrough": entry.passthrough_codes or None,
            "tokens_in": entry.tokens_in,
            "tokens_out": entry.tokens_out,
        }
        write = self.log.debug if entry.route in _PROBES and status < 400 else self.log.info
        write("request", **{name: value for name, value in fields.items() if value is not None})


def _described_route(scope: Scope) -> str:
    """The route of a request that was refused before routing.

    Only documented paths are returned: arbitrary paths must not become labels of a metric.
    """
    path: str = scope["path"]
    return path if path in scope["app"].openapi()["paths"] else _UNKNOWN_ROUTE


def _request_id(scope: Scope) -> str:
    """The caller's id if it is safe in a header and a log, else a new one."""
    given = next((value for name, value in scope["headers"] if name == REQUEST_ID_HEADER), b"")
    return given.decode() if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex


def _fault_location(error: Exception) -> dict[str, Any]:
    """The location of a fault, without its message, which may contain text of the request."""
    frames = traceback.extract_tb(error.__traceback__)[-3:]
    return {
        "error": type(error).__name__,
        "at": [f"{f.filename}:{f.lineno} {f.name}" for f in frames],
    }
