"""A client of a tamis service, sync and async.

    with Client("http://localhost:8080") as tamis:
        short = tamis.compress("How are keys rotated?", documents, max_tokens=500)
        short.text, short.usage.output_tokens

A request that was refused with 429 or 503 is sent again after the seconds of `Retry-After`, unless
they are more than `timeout_s`; one whose connection failed, after a pause that grows.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

import httpx
from pydantic import BaseModel, ValidationError

from tamis.probes.errors import BadInput, TamisError
from tamis.service.agents.remote import check_address
from tamis.service.api.spans import traceparent_headers
from tamis.service.http.schemas.about import Health, Info, Models
from tamis.service.http.schemas.compress import BatchResult, Compression, CompressionList
from tamis.service.http.schemas.dialects.cohere import CohereAnswer
from tamis.service.http.schemas.dialects.vendors import ScoreAnswer
from tamis.service.http.schemas.expand import Expansion
from tamis.service.http.schemas.explain import Explanation
from tamis.service.http.schemas.json import dumps, loads
from tamis.service.http.schemas.search import RankedToolsAnswer, SearchAnswer

__all__ = ["AsyncClient", "Client", "ServiceError"]

M = TypeVar("M", bound=BaseModel)
P = ParamSpec("P")
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


class _Connection:
    """The connection of a client: address, headers, time limit and retries.

    Raises:
        BadInput: an address that is none, or a key with characters that no header may have.
    """

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float, retries: int) -> None:
        check_address("base_url", base_url)
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

    def request_options(self, request: Request[Any]) -> dict[str, Any]:
        """The arguments of httpx's `request`.

        Raises:
            BadInput: a field is NaN or infinite, which JSON cannot say.
        """
        for name, value in (request.body or {}).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise BadInput(f"{name} is {value}; give a finite number")
        content = None if request.body is None else dumps(request.body)
        verb = "GET" if content is None else "POST"
        headers = traceparent_headers()
        return {"method": verb, "url": request.path, "content": content, "headers": headers}

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


@dataclass(frozen=True, slots=True)
class Request(Generic[M]):
    """What a call sends, and the model of its answer; a GET where there is no body."""

    path: str
    answer: type[M]
    body: Mapping[str, Any] | None = None


class Call(Generic[P, M]):
    """A method of both clients, made of what says its request: `AsyncClient`'s is awaited."""

    def __init__(self, to_request: Callable[Concatenate[Any, P], Request[M]]) -> None:
        self._to_request, self.__doc__ = to_request, to_request.__doc__

    @overload
    def __get__(self, client: None, owner: type) -> Self: ...
    @overload
    def __get__(self, client: Client, owner: type) -> Callable[P, M]: ...
    @overload
    def __get__(self, client: AsyncClient, owner: type) -> Callable[P, Coroutine[Any, Any, M]]: ...
    def __get__(self, client: Any, owner: type) -> Any:
        if client is None:
            return self
        to_request = self._to_request.__get__(client)

        @wraps(to_request)
        def call(*args: P.args, **fields: P.kwargs) -> Any:
            return client.send(to_request(*args, **fields))

        return call


class _Calls(_Connection):
    """The calls of both clients.

    All raise `ServiceError`, with the message of the service, and `BadInput` for what no request
    can say: a text in place of a list, or a field that is NaN.
    """

    @Call
    def compress(
        self, /, question: str, documents: Documents, **fields: Any
    ) -> Request[Compression]:
        """`POST /v1/compress`; fields as there, such as `max_tokens`."""
        body = {"question": question, **_lists(documents=documents), **fields}
        return Request("/v1/compress", Compression, body)

    @Call
    def compress_each(
        self, /, questions: Sequence[str], documents: Documents, **fields: Any
    ) -> Request[CompressionList]:
        """Many questions on the same documents, as `POST /v1/compress` with `questions`."""
        body = _lists(questions=questions, documents=documents) | fields
        return Request("/v1/compress", CompressionList, body)

    @Call
    def compress_batch(self, inputs: Sequence[Mapping[str, Any]]) -> Request[BatchResult]:
        """Many requests in one call; each has an answer or an error."""
        return Request("/v1/compress/batch", BatchResult, _lists(inputs=inputs))

    @Call
    def explain(
        self, /, question: str, documents: Documents, **fields: Any
    ) -> Request[Explanation]:
        """`compress`, with every sentence and its score."""
        body = {"question": question, **_lists(documents=documents), **fields}
        return Request("/v1/explain", Explanation, body)

    @Call
    def rerank(
        self, /, question: str, documents: Sequence[str], *, spans: bool = False, **fields: Any
    ) -> Request[CohereAnswer]:
        """`POST /v2/rerank`; with `spans`, says which parts of each document answer."""
        span_fields = {"relevant_spans": {"mode": "enabled"}} if spans else {}
        body = {"query": question, **_lists(documents=documents), **span_fields, **fields}
        return Request("/v2/rerank", CohereAnswer, body)

    @Call
    def score(
        self, /, question: str, documents: Sequence[str], **fields: Any
    ) -> Request[ScoreAnswer]:
        """`POST /score`: one score for each document, independent of the others."""
        body = {"queries": question, **_lists(documents=documents), **fields}
        return Request("/score", ScoreAnswer, body)

    @Call
    def search(
        self,
        question: str,
        k: int = 10,
        *,
        index: str | None = None,
        where: Mapping[str, Any] | None = None,
        search: str = "auto",
    ) -> Request[SearchAnswer]:
        """Passages of an index; `search` says how its keys are searched."""
        body = {"question": question, "k": k, "index": index, "where": where, "search": search}
        given = {name: value for name, value in body.items() if value is not None}
        return Request("/v1/search", SearchAnswer, given)

    @Call
    def rank_tools(
        self, /, question: str, tools: Sequence[Mapping[str, Any]], **fields: Any
    ) -> Request[RankedToolsAnswer]:
        """`POST /v1/tools/rank`; fields as there, such as `top_n`."""
        body = {"question": question, **_lists(tools=tools), **fields}
        return Request("/v1/tools/rank", RankedToolsAnswer, body)

    @Call
    def expand(
        self, documents: Documents, spans: Sequence[Mapping[str, Any]], neighbours: int = 1
    ) -> Request[Expansion]:
        """The text around spans (`index`, `start`, `end`) of an answer, in whole sentences."""
        body = {**_lists(documents=documents, spans=spans), "neighbours": neighbours}
        return Request("/v1/expand", Expansion, body)

    @Call
    def models(self) -> Request[Models]:
        """The values that `model` may have."""
        return Request("/v1/models", Models)

    @Call
    def info(self) -> Request[Info]:
        """The service's model, methods and limits."""
        return Request("/info", Info)

    @Call
    def health(self) -> Request[Health]:
        """Whether the service is ready; a `ServiceError` where it is not."""
        return Request("/readyz", Health)


class Client(_Calls):
    """A synchronous client.

    Args:
        base_url: such as http://localhost:8080.
        api_key: if the service has keys.
        timeout_s: the time limit of each try, and of a wait that the service asks for between two.
        retries: how often a request is sent again.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s, retries)
        self._http = httpx.Client(**self.http_options, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def send(self, request: Request[M]) -> M:
        """The answer to a request; one that was refused for a while is sent again."""
        options, retry_pauses = self.request_options(request), self.retry_pauses()
        while True:
            try:
                answer: Any = self._http.request(**options)
            except httpx.HTTPError as error:
                answer = error
            pause_s = self.retry_wait_s(answer, retry_pauses)
            if pause_s is None:
                return parse_answer(answer, request.answer, self.http_options["base_url"])
            time.sleep(pause_s)


class AsyncClient(_Calls):
    """`Client` for asyncio: the same calls, awaited, and the same answers."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: int = 3,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(base_url, api_key, timeout_s, retries)
        self._http = httpx.AsyncClient(**self.http_options, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def send(self, request: Request[M]) -> M:
        """As `Client.send`."""
        options, retry_pauses = self.request_options(request), self.retry_pauses()
        while True:
            try:
                answer: Any = await self._http.request(**options)
            except httpx.HTTPError as error:
                answer = error
            pause_s = self.retry_wait_s(answer, retry_pauses)
            if pause_s is None:
                return parse_answer(answer, request.answer, self.http_options["base_url"])
            await asyncio.sleep(pause_s)


def _lists(**given: Any) -> dict[str, Any]:
    """What was given, as lists.

    Raises:
        BadInput: a text, whose characters would be sent one by one, a mapping, or nothing to list.
    """
    for name, values in given.items():
        if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, Iterable):
            raise BadInput(f"{name} is of type {type(values).__name__}; give a list of {name}")
    return {name: list(values) for name, values in given.items()}


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
    body = body if isinstance(body, dict) else {}
    error = body.get("error", body)
    if not isinstance(error, dict):
        error = {"message": error, "code": body.get("error_type")}
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
