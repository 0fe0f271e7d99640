"""Shared by all routes: reading of bodies, limits, JSON answers, documented errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel

from tamis.probes.errors import BadInput
from tamis.service.api.spans import operation_span
from tamis.service.engine.errors import OutOfTime, Overloaded, TooLarge, TooLong
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.middleware.request_log import (
    PASSTHROUGH_HEADER,
    RequestLogEntry,
    log_entry_of,
)
from tamis.service.http.runtime.errors import (
    POST_STATUSES,
    CohereError,
    ErrorBody,
    ErrorFormat,
    TeiError,
    failure_of,
    status_summary,
)
from tamis.service.http.runtime.executor import run_while_connected
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import WARNINGS_HEADER, warnings_header
from tamis.service.http.schemas.dialects.table import error_format
from tamis.service.http.schemas.json import JsonResponse, loads
from tamis.text.inputs import check_question_length

T = TypeVar("T")
_MAX_CHARS_PER_TOKEN = 6
_SERVER_ERROR = 500
_RETRY_HEADERS = {
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
}
PASSTHROUGH_HEADERS = {
    PASSTHROUGH_HEADER.decode().title(): {
        "description": "Under `on_error: passthrough`, the code of the error that kept the "
        "documents from being compressed.",
        "schema": {"type": "string"},
    }
}
WARNINGS_HEADERS = {
    WARNINGS_HEADER: {
        "description": "Fields that have no effect, as a JSON list, where the answer itself has no "
        "place for warnings.",
        "schema": {"type": "string"},
    }
}
PASSTHROUGH_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"headers": PASSTHROUGH_HEADERS | WARNINGS_HEADERS}
}
WARNINGS_RESPONSES: dict[int | str, dict[str, Any]] = {200: {"headers": WARNINGS_HEADERS}}
_ERROR_BODIES: dict[ErrorFormat, Any] = {
    "openai": ErrorBody,
    "tei": TeiError,
    "cohere": CohereError,
}


class ReadRequest(Request):
    """A request whose body was read with `schemas.json` before FastAPI asks for it.

    The format of its errors is set by its body, where the path alone does not decide.
    """

    _found: Any = None
    _fault: json.JSONDecodeError | None = None

    def read(self, data: bytes, field: Any) -> None:
        """Parses and validates the body; FastAPI takes an object that is valid as it is.

        Args:
            field: FastAPI's, of the route's body.

        Raises:
            RequestValidationError: it is JSON, and not what the route takes.
        """
        try:
            body = loads(data)
        except json.JSONDecodeError as error:
            self._fault = error
            return
        log_entry_of(self.scope).error_format = error_format(self.scope["path"], body)
        self._found, errors = field.validate(body, {}, loc=("body",))
        if errors:
            raise RequestValidationError(errors, body=body)

    async def json(self) -> Any:
        """The body.

        Raises:
            json.JSONDecodeError: it is no JSON.
        """
        if self._fault is not None:
            raise self._fault
        return self._found


class JsonRoute(APIRoute):
    """A route that reads its body with `schemas.json`, whatever its content type."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, called with a `ReadRequest`."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            given = ReadRequest(request.scope, request.receive)
            if self.body_field is not None and (data := await given.body()):
                read = partial(given.read, data, self.body_field)
                await service_state(given).executor.run_off_loop(read)
            return await inner(given)

        return handler


def create_router() -> APIRouter:
    """A router of `JsonRoute`s."""
    return APIRouter(route_class=JsonRoute)


def error_responses(
    *extra: int, formats: Sequence[ErrorFormat] = ("openai",), post: bool = True
) -> dict[int | str, dict[str, Any]]:
    """The error responses of a route for the OpenAPI document."""
    body = _ERROR_BODIES[formats[0]]
    for form in formats[1:]:
        body = body | _ERROR_BODIES[form]
    statuses = sorted({401, 429, 500, *(POST_STATUSES if post else ()), *extra})
    return {
        status: {"model": body, "description": status_summary(status)}
        | ({"headers": _RETRY_HEADERS} if status in (429, 503) else {})
        for status in statuses
    }


def service_state(request: Request) -> ServiceState:
    """The state of the service that a request came to."""
    state: ServiceState = request.app.state.service_state
    return state


async def run_connected(
    request: Request, work: Callable[[QueuedRequest], T], timeout_ms: int | None
) -> T:
    """Runs work without the model, for as long as the client is connected.

    Raises:
        Refused: as `RequestExecutor.run` and `run_while_connected`.
    """
    executor = service_state(request).executor
    running = executor.run(work, executor.limits(timeout_ms))
    return await run_while_connected(request.receive, running)


def request_span(
    state: ServiceState, operation: str, model: str | None
) -> AbstractContextManager[Any]:
    """A span of OpenTelemetry around a part of a request; None where nothing is traced."""
    if state.settings.traces == "off":
        return nullcontext()
    return operation_span(operation, model, is_served=True)


def log_entry(request: Request) -> RequestLogEntry:
    """The log entry of a request."""
    return log_entry_of(request.scope)


def json_response(
    model: BaseModel, exclude_none: bool = False, warnings: Sequence[str] = ()
) -> JsonResponse:
    """A pydantic model as a JSON response; text is not altered.

    Args:
        warnings: for the header, where the answer itself has no place for them.
    """
    response = JsonResponse(
        model.model_dump(mode="python", by_alias=True, exclude_none=exclude_none)
    )
    add_warnings(response, warnings)
    return response


def add_warnings(response: Response, warnings: Sequence[str]) -> None:
    """Sets the header of warnings, if there are any."""
    if warnings:
        response.headers[WARNINGS_HEADER] = warnings_header(warnings)


def note_passthrough(
    state: ServiceState, entry: RequestLogEntry, error: Exception, on_error: str
) -> None:
    """Records an error in whose place the caller gets the input back.

    Raises:
        Exception: the error itself, where the caller wants it or has made the mistake.
    """
    failure = failure_of(error)
    of_time = isinstance(error, Overloaded | TooLong | OutOfTime)
    is_ours = failure.status >= _SERVER_ERROR or of_time
    if on_error == "fail" or not is_ours:
        raise error
    entry.add_fault(error)
    entry.passthrough_codes.append(failure.code)
    state.metrics.fallbacks.labels(failure.code).inc()


def check_limits(
    settings: Settings, questions: Sequence[str], documents: int, characters: int = 0
) -> None:
    """Checks a request against the service's limits before any work is done for it.

    Args:
        questions: each with its instruction and history.
        characters: of all documents, with what is written around them.

    Raises:
        BadInput: too many documents or questions, or a question that is too long.
        TooLarge: more text than fits `max_request_tokens` with any tokenizer. Methods that read
            also count the tokens.
    """
    if characters > _MAX_CHARS_PER_TOKEN * (most := settings.max_request_tokens):
        raise TooLarge(
            f"the documents have {characters:,} characters with what stands around each; the most "
            f"is {most:,} tokens, at {_MAX_CHARS_PER_TOKEN} characters each; send them in parts"
        )
    if documents > settings.max_documents:
        raise BadInput(
            f"{documents:,} documents were given and {settings.max_documents:,} is the most; "
            "send them in parts"
        )
    if len(questions) > settings.max_inputs:
        raise BadInput(
            f"{len(questions)} questions were given and {settings.max_inputs} is the most"
        )
    for question in questions:
        check_question_length(question, settings.max_question_chars)
