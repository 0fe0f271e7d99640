"""How errors are answered: one table for all dialects.

The OpenAPI document takes its statuses from here, so that it agrees with the service.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from tamis.probes.errors import (
    BadInput,
    BudgetTooSmall,
    MissingExtra,
    TamisError,
    UnknownMethod,
    UnknownTokenizer,
)
from tamis.service.engine.errors import (
    AmbiguousLength,
    ClientDisconnected,
    EmptyInput,
    ForeignOrigin,
    LimitPassed,
    Malformed,
    MethodNotAllowed,
    NotFound,
    OutOfTime,
    Overloaded,
    RateLimited,
    SlowBody,
    TooLarge,
    TooLong,
    Unauthorized,
    Unavailable,
    UpstreamBusy,
    WorkerDied,
    WrongMediaType,
)

ErrorFormat = Literal["openai", "tei", "cohere"]


@dataclass(frozen=True, slots=True)
class Failure:
    """How a kind of error is answered.

    Attributes:
        status: of HTTP. type, code: OpenAI's. tei: TEI's `error_type`.
        summary: one line for the OpenAPI document.
    """

    status: int
    type: str
    code: str
    tei: str
    summary: str


_INVALID_REQUEST, _SERVER_ERROR = "invalid_request_error", "server_error"
INTERNAL = Failure(500, _SERVER_ERROR, "internal_error", "backend", "A fault of the service.")
TABLE: dict[type[Exception], Failure] = {
    Malformed: Failure(
        400, _INVALID_REQUEST, "malformed_json", "validation", "The body is no JSON."
    ),
    AmbiguousLength: Failure(
        400,
        _INVALID_REQUEST,
        "ambiguous_length",
        "validation",
        "Send Content-Length or Transfer-Encoding, not both.",
    ),
    EmptyInput: Failure(400, _INVALID_REQUEST, "empty", "empty", "There is nothing to rank."),
    Unauthorized: Failure(
        401,
        "authentication_error",
        "invalid_api_key",
        "validation",
        "The API key is missing or wrong.",
    ),
    ForeignOrigin: Failure(
        403,
        "permission_error",
        "foreign_origin",
        "validation",
        "Pages of this origin are not let in.",
    ),
    NotFound: Failure(
        404, _INVALID_REQUEST, "not_found", "validation", "No such path, model or index."
    ),
    UnknownMethod: Failure(
        404, _INVALID_REQUEST, "model_not_found", "validation", "No such path, model or index."
    ),
    MethodNotAllowed: Failure(
        405,
        _INVALID_REQUEST,
        "method_not_allowed",
        "validation",
        "The path does not know this verb.",
    ),
    SlowBody: Failure(
        408, _INVALID_REQUEST, "body_timeout", "validation", "The body came too slowly."
    ),
    TooLarge: Failure(
        413,
        _INVALID_REQUEST,
        "request_too_large",
        "validation",
        "More bytes or tokens than are taken.",
    ),
    TooLong: Failure(
        413,
        _INVALID_REQUEST,
        "request_too_long",
        "validation",
        "More bytes or tokens than are taken.",
    ),
    WrongMediaType: Failure(
        415,
        _INVALID_REQUEST,
        "unsupported_media_type",
        "validation",
        "Send JSON, plain or gzipped.",
    ),
    BudgetTooSmall: Failure(
        422,
        _INVALID_REQUEST,
        "budget_too_small",
        "validation",
        "The request cannot be served as it is.",
    ),
    UnknownTokenizer: Failure(
        422,
        _INVALID_REQUEST,
        "unknown_tokenizer",
        "tokenizer",
        "The request cannot be served as it is.",
    ),
    BadInput: Failure(
        422, _INVALID_REQUEST, "bad_input", "validation", "The request cannot be served as it is."
    ),
    RateLimited: Failure(
        429, "rate_limit_error", "rate_limit_exceeded", "overloaded", "Come back after Retry-After."
    ),
    Overloaded: Failure(
        429, "rate_limit_error", "overloaded", "overloaded", "Come back after Retry-After."
    ),
    ClientDisconnected: Failure(
        499, _INVALID_REQUEST, "client_closed_request", "validation", "The client hung up."
    ),
    MissingExtra: Failure(
        501, _SERVER_ERROR, "not_installed", "backend", "What this needs is not installed."
    ),
    WorkerDied: Failure(
        503,
        _SERVER_ERROR,
        "worker_died",
        "unhealthy",
        "The model is unavailable; retry after the time in Retry-After.",
    ),
    Unavailable: Failure(
        503,
        _SERVER_ERROR,
        "unavailable",
        "unhealthy",
        "The model is unavailable; retry after the time in Retry-After.",
    ),
    UpstreamBusy: Failure(
        503,
        _SERVER_ERROR,
        "upstream_busy",
        "overloaded",
        "All connections to the upstream are in use; retry after the time in Retry-After.",
    ),
    OutOfTime: Failure(
        408, _INVALID_REQUEST, "timeout_ms", "validation", "It takes longer than timeout_ms."
    ),
    LimitPassed: Failure(504, _SERVER_ERROR, "timeout", "backend", "The time limit was exceeded."),
    # ProxyMissing, BadModelFile and similar: the service was set up wrongly
    TamisError: Failure(
        503,
        _SERVER_ERROR,
        "unavailable",
        "unhealthy",
        "The model is unavailable; retry after the time in Retry-After.",
    ),
}
ALWAYS = (500,)
POST_STATUSES = (400, 408, 413, 415, 422, 429, 503, 504)


def failure_of(error: Exception) -> Failure:
    """The row of the table for the most specific class of the error."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def message_of(error: Exception) -> str:
    """The message for the caller; of an unforeseen fault only that it happened."""
    if failure_of(error) is INTERNAL:
        return "the service failed; its log has the request id and the place"
    return str(error)


def body_of(failure: Failure, message: str, form: ErrorFormat, param: str | None = None) -> Any:
    """The body of an error in a format."""
    if form == "tei":
        return {"error": message, "error_type": failure.tei}
    if form == "cohere":
        return {"message": message}
    error = {"message": message, "type": failure.type, "param": param, "code": failure.code}
    return {"error": error, "detail": message}


def headers_of(error: Exception) -> dict[str, str]:
    """`Retry-After` in whole seconds where waiting helps; `WWW-Authenticate` for a missing key."""
    headers = {"WWW-Authenticate": "Bearer"} if isinstance(error, Unauthorized) else {}
    if (seconds := getattr(error, "retry_after_s", None)) is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return headers


def status_summary(status: int) -> str:
    """The one-line description of a status."""
    return next((f.summary for f in (*TABLE.values(), INTERNAL) if f.status == status), "")
