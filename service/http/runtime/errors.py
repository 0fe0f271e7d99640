"""How errors are answered: one table for all dialects, and the bodies of each.

The OpenAPI document takes its statuses from here, so that it agrees with the service.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from tamis.probes.errors import (
    BadInput,
    BudgetTooSmall,
    MissingExtra,
    TamisError,
    UnknownMethod,
    UnknownTokenizer,
)
from tamis.service.engine import errors as service_errors

ErrorFormat = Literal["openai", "tei", "cohere"]


_STATUSES = {
    400: "The body is no JSON.",
    401: "The API key is missing or wrong.",
    403: "Pages of this origin are not let in.",
    404: "No such path, model or index.",
    405: "The path does not know this verb.",
    408: "The body came too slowly.",
    413: "More bytes or tokens than are taken.",
    415: "Send JSON, plain or gzipped.",
    421: "A service without keys does not answer to this host name.",
    422: "The request cannot be served as it is.",
    429: "Come back after Retry-After.",
    499: "The client hung up.",
    500: "A fault of the service.",
    501: "What this needs is not installed.",
    503: "The model is unavailable; retry after the time in Retry-After.",
    504: "The time limit was exceeded.",
}
"""What each status means, for the OpenAPI document."""
_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
"""OpenAI's `type` of an error, where the class of its status does not say it."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How a kind of error is answered.

    Attributes:
        status: of HTTP.
        code: OpenAI's.
        tei: TEI's `error_type`.
        when: what happened, where the status can mean something else.
    """

    status: int
    code: str
    tei: str = "validation"
    when: str = ""

    @property
    def summary(self) -> str:
        """What happened, in a line."""
        return self.when or status_summary(self.status)

    @property
    def type(self) -> str:
        """OpenAI's `type`."""
        by_class = "server_error" if self.status >= 500 else "invalid_request_error"
        return _TYPES.get(self.status, by_class)


INTERNAL = Failure(500, "internal_error", "backend")
TABLE: dict[type[Exception], Failure] = {
    service_errors.Malformed: Failure(400, "malformed_json"),
    service_errors.AmbiguousLength: Failure(
        400, "ambiguous_length", when="Send Content-Length or Transfer-Encoding, not both."
    ),
    service_errors.EmptyInput: Failure(400, "empty", "empty", "There is nothing to rank."),
    service_errors.Unauthorized: Failure(401, "invalid_api_key"),
    service_errors.ForeignOrigin: Failure(403, "foreign_origin"),
    service_errors.NotFound: Failure(404, "not_found"),
    UnknownMethod: Failure(404, "model_not_found"),
    service_errors.MethodNotAllowed: Failure(405, "method_not_allowed"),
    service_errors.SlowBody: Failure(408, "body_timeout"),
    service_errors.OutOfTime: Failure(408, "timeout_ms", when="It takes longer than timeout_ms."),
    service_errors.TooLarge: Failure(413, "request_too_large"),
    service_errors.TooLong: Failure(413, "request_too_long"),
    service_errors.WrongMediaType: Failure(415, "unsupported_media_type"),
    service_errors.ForeignHost: Failure(421, "foreign_host"),
    BudgetTooSmall: Failure(422, "budget_too_small"),
    UnknownTokenizer: Failure(422, "unknown_tokenizer", "tokenizer"),
    BadInput: Failure(422, "bad_input"),
    service_errors.RateLimited: Failure(429, "rate_limit_exceeded", "overloaded"),
    service_errors.Overloaded: Failure(429, "overloaded", "overloaded"),
    service_errors.ClientDisconnected: Failure(499, "client_closed_request"),
    MissingExtra: Failure(501, "not_installed", "backend"),
    service_errors.WorkerDied: Failure(503, "worker_died", "unhealthy"),
    service_errors.Unavailable: Failure(503, "unavailable", "unhealthy"),
    service_errors.UpstreamBusy: Failure(
        503,
        "upstream_busy",
        "overloaded",
        "All connections to the upstream are in use; retry after the time in Retry-After.",
    ),
    service_errors.LimitPassed: Failure(504, "timeout", "backend"),
    # ProxyMissing, BadModelFile and similar: the service was set up wrongly
    TamisError: Failure(503, "unavailable", "unhealthy"),
}
POST_STATUSES = (400, 408, 413, 415, 422, 429, 503, 504)


def failure_of(error: Exception) -> Failure:
    """The row of the table for the most specific class of the error."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), INTERNAL)


def message_of(error: Exception) -> str:
    """The message for the caller; of an unforeseen fault only that it happened."""
    if failure_of(error) is INTERNAL:
        return "the service failed; its log has the request id and the place"
    return str(error)


_TYPE_NAME = re.compile(r"function-\w+\[.*\]|str|list\[.*\]|[A-Z]\w*")
"""Parts of an error's location that name the type that was tried."""


def _field_path(error: Any, tags: Collection[str]) -> tuple[str, ...]:
    """The path of the faulty field, without tags of unions and names of models."""
    parts = (str(part) for part in error["loc"] if part not in tags)
    return tuple(part for part in parts if not _TYPE_NAME.fullmatch(part))


def _most_specific_error(errors: Any) -> Any:
    """The first error; of an object where a text is allowed too, the error inside the object."""
    first = errors[0]
    if isinstance(first["input"], dict) and first["type"] == "string_type":
        inside = [e for e in errors[1:] if e["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]]
        return next(iter(inside), first)
    return first


def first_validation_error(errors: Any, tags: Collection[str] = ()) -> tuple[Exception, str | None]:
    """The first of pydantic's errors as one of ours, and the path of its field.

    Args:
        tags: parts of a location that name unions, not fields of the request.
    """
    first = _most_specific_error(errors)
    if first["type"] == "json_invalid":
        return service_errors.Malformed(f"the body is no JSON: {first['ctx']['error']}"), None
    if first["loc"] == ("body",) and first["type"] == "missing":
        return service_errors.Malformed("the body is empty; send JSON"), None
    field_path = ".".join(_field_path(first, tags))
    others = len({_field_path(error, tags) for error in errors} - {_field_path(first, tags)})
    more = f" (and {others} more)" if others else ""
    message = first["msg"].removeprefix("Value error, ")
    return BadInput(f"{field_path or 'the body'}: {message}{more}"), field_path or None


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
    headers = (
        {"WWW-Authenticate": "Bearer"} if isinstance(error, service_errors.Unauthorized) else {}
    )
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["Retry-After"] = str(seconds)
    return headers


def status_summary(status: int) -> str:
    """The one-line description of a status."""
    return _STATUSES[status]


class ErrorDetail(BaseModel):
    """An error: its message, type, the field if there is one, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """An error in OpenAI's format; `detail`, its message, is what Xinference's client reads."""

    error: ErrorDetail
    detail: str


class TeiError(BaseModel):
    """An error in TEI's format."""

    error: str
    error_type: str


class CohereError(BaseModel):
    """An error in Cohere's format."""

    message: str
