"""Runs the work of HTTP requests in threads: admission, time limits, clients that disconnect."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from tamis.service.engine.engine import Engine
from tamis.service.engine.errors import ClientDisconnected, OutOfTime
from tamis.service.engine.request import QueuedRequest

P = TypeVar("P")
T = TypeVar("T")
_PREPARING_THREADS = 4
"""Segmenting and counting hold the interpreter: more threads would only wait for each other."""
_CHARS_PER_TOKEN, _NON_ASCII_CHARS_PER_TOKEN = 4, 2
_TEMPLATE_TOKENS = 32
request_fingerprint: ContextVar[int | None] = ContextVar("request_fingerprint", default=None)
"""What is the same when a client sends the same body again; None outside HTTP."""


def estimate_tokens(question: str, texts: list[str]) -> int:
    """About how many tokens a request will make the model read, before anything is tokenised."""
    question_tokens = _estimate_text_tokens(question) + _TEMPLATE_TOKENS
    return sum(
        _estimate_text_tokens(text) + question_tokens * (1 + _estimate_text_tokens(text) // 480)
        for text in texts
    )


def _estimate_text_tokens(text: str) -> int:
    return len(text) // (_CHARS_PER_TOKEN if text.isascii() else _NON_ASCII_CHARS_PER_TOKEN) + 1


class RequestExecutor:
    """Admits requests to the engine and runs their work in threads; the model is not touched here.

    There are as many threads as the engine admits requests, so no request waits for a thread; most
    threads only wait for signals.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self.engine, self.timeout_s = engine, timeout_s
        self._pool = ThreadPoolExecutor(engine.bounds.max_requests + 8, "tamis-request")
        self._preparing = ThreadPoolExecutor(_PREPARING_THREADS, "tamis-prepare")

    async def run(
        self,
        work: Callable[[QueuedRequest], T],
        tokens: int,
        priority: int = 0,
        timeout_ms: int | None = None,
    ) -> T:
        """Admits a request and runs its work in a thread.

        Args:
            tokens: about how many tokens it will make the model read.
            priority: 0 goes first.
            timeout_ms: after this time the answer is made of what was read until then.

        Raises:
            Overloaded: at once, if there is no room. OutOfTime: the service's time limit passed.
        """
        return await self._run_admitted(work, tokens, priority, timeout_ms, self.timeout_s)

    async def run_prepared(
        self,
        prepare: Callable[[], P],
        tokens: Callable[[P], int | None],
        work: Callable[[P, QueuedRequest], T],
        priority: int = 0,
        timeout_ms: int | None = None,
        limit_s: float | None = None,
    ) -> T:
        """Prepares a request in a thread, and admits it only if it then needs the model.

        Args:
            prepare: needs no model. tokens: about how many tokens the prepared request will make
                the model read; None for a request that needs no model and no admission.
            work, priority, timeout_ms: as for `run`; both stages share the time limits.
            limit_s: the seconds that are left of the call; by default the service's time limit.

        Raises:
            Overloaded: no room for a request that needs the model. OutOfTime: as for `run`.
        """
        started = time.monotonic()
        limit_s = self.timeout_s if limit_s is None else limit_s
        if limit_s <= 0:
            raise self.out_of_time()
        prepared = await self._within(self._start(self._preparing, prepare), limit_s)
        spent_s = time.monotonic() - started
        left_s = max(0.001, limit_s - spent_s)
        if (needed := tokens(prepared)) is None:
            done = partial(work, prepared, QueuedRequest(priority, 0.0, 0))
            return await self._within(self._start(self._preparing, done), left_s)
        if timeout_ms is not None:
            timeout_ms = max(1, timeout_ms - round(spent_s * 1e3))
        return await self._run_admitted(
            partial(work, prepared), needed, priority, timeout_ms, left_s
        )

    async def _run_admitted(
        self,
        work: Callable[[QueuedRequest], T],
        tokens: int,
        priority: int,
        timeout_ms: int | None,
        limit_s: float,
    ) -> T:
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1e3
        queued = self.engine.admit(tokens, priority, deadline, limit_s, request_fingerprint.get())
        try:
            return await self._within(
                self._start(self._pool, partial(_run_as_request, work, queued)), limit_s
            )
        except OutOfTime as timeout:
            queued.end(timeout)
            raise
        except asyncio.CancelledError:
            queued.end(ClientDisconnected("the client hung up"))
            raise
        finally:
            self.engine.release(queued)

    def _start(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> asyncio.Future[T]:
        future = asyncio.get_running_loop().run_in_executor(pool, _contain_panic, work)
        future.add_done_callback(_ignore_late_error)
        return future

    async def _within(self, future: asyncio.Future[T], limit_s: float) -> T:
        done, _ = await asyncio.wait({future}, timeout=limit_s)
        if not done:
            future.cancel()
            raise self.out_of_time()
        return future.result()

    def out_of_time(self) -> OutOfTime:
        """The error of a call that takes longer than the service's time limit."""
        return OutOfTime(
            f"the request was not done within {self.timeout_s:g} s; send fewer or shorter "
            "documents, or start the service with a longer --timeout-s"
        )

    def close(self) -> None:
        """Stops the threads."""
        for pool in (self._pool, self._preparing):
            pool.shutdown(wait=False, cancel_futures=True)


def _run_as_request(work: Callable[[QueuedRequest], T], queued: QueuedRequest) -> T:
    with queued.as_current():
        return work(queued)


def _contain_panic(work: Callable[[], T]) -> T:
    try:
        return work()
    except Exception:
        raise
    except BaseException as error:  # a panic in Rust is not an Exception and would end the server
        raise RuntimeError(type(error).__name__) from error


def _ignore_late_error(future: asyncio.Future[Any]) -> None:
    """Retrieves an error that comes after its client has gone, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()


async def run_while_connected(
    receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, T]
) -> T:
    """Awaits the work for as long as the client is connected.

    Raises:
        ClientDisconnected: the client disconnected; the work was cancelled.
    """
    task, disconnect = (
        asyncio.ensure_future(work),
        asyncio.ensure_future(_wait_for_disconnect(receive)),
    )
    try:
        await asyncio.wait({task, disconnect}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnected("the client hung up")
    finally:
        disconnect.cancel()
        task.cancel()
        await asyncio.gather(task, disconnect, return_exceptions=True)


async def _wait_for_disconnect(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
