"""What both clients share: request bodies, when to retry, and how answers are parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from tamis.probes.errors import BadInput, TamisError
from tamis.service.http.schemas.json import loads

M = TypeVar("M", bound=BaseModel)
Documents = Sequence[str | Mapping[str, Any]]
_RETRY_STATUSES = (429, 503)
_LONGEST_PAUSE_S = 8.0
_EXCERPT_BYTES = 120
_NOT_IN_HEADER = re.compile(r"^ |[^ -~]| $")


class ServiceError(TamisError):
    """The service refused, or could not be reached.

    Attributes:
        status: the HTTP status; None where there was no answer. code: the service's error code.
        request_id: the id of the request in the service's log.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.request_id = status, code, request_id

    @property
    def is_backend_failure(self) -> bool:
        """Whether the service failed (away, overloaded, broken) rather than the caller."""
        return self.status is None or self.status == 429 or self.status >= 500


class ClientConnection:
    """The connection of a client: address, headers, time limit and retries.

    Raises:
        BadInput: a key with characters that no header may have.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        self.retries, self.timeout_s = retries, timeout_s
        if api_key and _NOT_IN_HEADER.search(api_key):
            # httpx would show the header in its error, and the key with it
            raise BadInput(
                "api_key has blanks around it, a line break or a character beyond ASCII, which no "
                "header may have; strip what it was read from"
            )
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.http_options: dict[str, Any] = {
            "base_url": base_url.rstrip("/"),
            "headers": {**headers, "Content-Type": "application/json"},
            "timeout": timeout_s,
        }

    def retry_pauses(self) -> Iterator[float]:
        """Seconds to wait before each further try, where the service does not say."""
        yield from (min(0.25 * 2**i, _LONGEST_PAUSE_S) for i in range(self.retries))

    def retry_wait_s(
        self, answer: httpx.Response | httpx.HTTPError, retry_pauses: Iterator[float]
    ) -> float | None:
        """Seconds to wait before the next try; None if there is no next try.

        A wait beyond `timeout_s` is not begun: the caller has the refusal at once, and nobody is
        asked before they said.
        """
        if isinstance(answer, httpx.HTTPError):
            # one that was sent may have been served: only one that never arrived is sent again
            return next(retry_pauses, None) if isinstance(answer, httpx.ConnectError) else None
        if answer.status_code not in _RETRY_STATUSES or (pause := next(retry_pauses, None)) is None:
            return None
        retry_after = answer.headers.get("Retry-After", "")
        if not retry_after.isdecimal():
            return pause
        return wait_s if (wait_s := float(retry_after)) <= self.timeout_s else None


def compress_body(query: str | Sequence[str], documents: Documents, fields: Any) -> Any:
    questions = {"query": query} if isinstance(query, str) else {"queries": list(query)}
    return {**questions, "documents": list(documents), **fields}


def search_body(
    query: str, k: int, index: str | None, where: Mapping[str, Any] | None, search: str
) -> Any:
    body = {"query": query, "k": k, "index": index, "where": where, "search": search}
    return {name: value for name, value in body.items() if value is not None}


def expand_body(documents: Documents, spans: Sequence[Mapping[str, Any]], neighbours: int) -> Any:
    return {"documents": list(documents), "spans": list(spans), "neighbours": neighbours}


def rerank_body(query: str, documents: Sequence[str], spans: bool, fields: Any) -> Any:
    span_fields = {"relevant_spans": {"mode": "enabled"}} if spans else {}
    return {"query": query, "documents": list(documents), **span_fields, **fields}


def score_body(query: str, texts: Sequence[str], fields: Any) -> Any:
    return {"queries": query, "documents": list(texts), **fields}


def parse_answer(answer: httpx.Response | httpx.HTTPError, kind: type[M], url: str) -> M:
    """The answer as a model of this kind; fields that a newer service adds are ignored.

    Raises:
        ServiceError: no answer, an error, or an answer that is not of a tamis service.
    """
    if isinstance(answer, httpx.HTTPError):
        raise ServiceError(
            f"{url} could not be reached ({type(answer).__name__}: {answer})"
        ) from answer
    if answer.is_success:
        return _parse_success(answer, kind, url)
    message, code = _error_message(answer)
    raise ServiceError(message, answer.status_code, code, answer.headers.get("X-Request-ID"))


def _parse_success(answer: httpx.Response, kind: type[M], url: str) -> M:
    try:
        return _validate_leniently(kind, loads(answer.content))
    except ValueError as error:  # no JSON, or JSON of another shape
        why = str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            why = ".".join(map(str, (*first["loc"], first["msg"])))
        raise ServiceError(
            f"{url} answered {answer.status_code} with what is no {kind.__name__} ({why}): "
            f"{_excerpt(answer)}; check that base_url is that of a tamis service",
            answer.status_code,
            request_id=answer.headers.get("X-Request-ID"),
        ) from error


def _validate_leniently(kind: type[M], value: Any) -> M:
    """The value as a model of this kind, unknown fields removed.

    Raises:
        ValidationError: the value has another shape.
    """
    while True:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            extra = [e["loc"] for e in error.errors() if e["type"] == "extra_forbidden"]
            if not any([_remove_field(value, place) for place in extra]):
                raise


def _remove_field(value: Any, place: Sequence[int | str]) -> bool:
    """Removes the field at a path; steps that name a type of a union are skipped."""
    for step in place[:-1]:
        if isinstance(value, list) and isinstance(step, int):
            value = value[step]
        elif isinstance(value, dict):
            value = value.get(step, value)
    return isinstance(value, dict) and value.pop(place[-1], value) is not value


def _error_message(answer: httpx.Response) -> tuple[str, str | None]:
    """The message and the code of an error, in any dialect."""
    try:
        body = loads(answer.content)
    except ValueError:
        body = None
    error = body.get("error", body) if isinstance(body, dict) else None
    message, code = error, body.get("error_type") if isinstance(body, dict) else None
    if isinstance(error, dict):
        message, code = error.get("message"), error.get("code")
    if not isinstance(message, str) or not message:
        message = f"the service answered {answer.status_code}: {_excerpt(answer)}"
    return message, code if isinstance(code, str) else None


def _excerpt(answer: httpx.Response) -> str:
    """The beginning of a body, on one line."""
    if not answer.content:
        return "an empty body"
    more = "…" if len(answer.content) > _EXCERPT_BYTES else ""
    return repr(answer.content[:_EXCERPT_BYTES].decode("utf-8", "replace")) + more
