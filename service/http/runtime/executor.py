"""Runs the work of HTTP requests in threads: admission, time limits, clients that disconnect.

Work in Python has few threads of its own and a bound on how long it waits for one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from tamis.service.engine.engine import Engine, question_weight
from tamis.service.engine.errors import (
    ClientDisconnected,
    LimitPassed,
    Overloaded,
    Refused,
    Unavailable,
)
from tamis.service.engine.request import QueuedRequest

P = TypeVar("P")
T = TypeVar("T")
LARGE_BODY_BYTES = 1 << 16
"""A body of this size takes about 1 ms to parse and validate."""
_THREADS = 4
"""Segmenting and counting hold the interpreter: more threads would only wait for each other."""
_STUCK_S = 30.0
"""How long a thread may go on for a request that has ended, before it counts as stuck."""
_CHARS_PER_TOKEN, _NON_ASCII_CHARS_PER_TOKEN = 4, 2
_TEMPLATE_TOKENS = 32
_OVERHEAD_BYTES = 10_000
"""What a piece of work costs beside its bytes, in bytes."""
_RATE_DECAY = 0.9
_USABLE = 0.8
"""The part of a time limit that predicted waiting and working may take."""
request_bytes: ContextVar[int] = ContextVar("request_bytes", default=0)
"""The bytes of text that the work of this context is for: those of its request, or a share."""
request_fingerprint: ContextVar[int | None] = ContextVar("request_fingerprint", default=None)
"""What is the same when a client sends the same body again; None outside HTTP."""


def estimate_tokens(question: str, texts: list[str]) -> int:
    """About how many tokens a request will make the model read, before anything is tokenised."""
    asked = _estimate_text_tokens(question)
    tokens = sum(
        _estimate_text_tokens(text)
        + (asked + _TEMPLATE_TOKENS) * (1 + _estimate_text_tokens(text) // 480)
        for text in texts
    )
    return round(tokens * question_weight(asked))


def _estimate_text_tokens(text: str) -> int:
    return len(text) // (_CHARS_PER_TOKEN if text.isascii() else _NON_ASCII_CHARS_PER_TOKEN) + 1


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """When a call has to be done, by `time.monotonic`.

    Attributes:
        expires: then it fails.
        deadline: then it is answered with what was read until then; None for never.
    """

    expires: float
    deadline: float | None = None


class RequestExecutor:
    """Admits requests to the engine and runs their work in threads; the model is not touched here.

    There are as many threads as the engine admits requests, so no request waits for a thread; most
    threads only wait for signals. Work without the model has few threads of its own, and large
    bodies have one.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self.engine, self.timeout_s = engine, timeout_s
        engine.queue.longest_s = timeout_s
        most = engine.bounds.max_requests
        self._pool = ThreadPoolExecutor(most + 8, "tamis-request")
        self._computing = BoundedPool(_THREADS, "tamis-compute", most)
        self._computed: set[QueuedRequest] = set()
        self._large_bodies = BoundedPool(1, "tamis-large-bodies", most)

    def limits(self, timeout_ms: int | None = None, began: float | None = None) -> TimeLimits:
        """The time limits of a call.

        Args:
            timeout_ms: after this time the answer is made of what was read until then.
            began: when the call began; None is now.
        """
        began = time.monotonic() if began is None else began
        deadline = None if timeout_ms is None else began + timeout_ms / 1e3
        return TimeLimits(began + self.timeout_s, deadline)

    def check_threads(self) -> None:
        """Returns if there is a thread for work without the model, now or soon.

        Raises:
            Unavailable: all of them still work for requests that ended long ago.
        """
        ended = [r.ended_at for r in self._computed.copy() if r.ended_at is not None]
        if len(ended) == _THREADS and (late_s := time.monotonic() - max(ended)) > _STUCK_S:
            raise Unavailable(
                f"all {_THREADS} threads that prepare requests have worked for {late_s:.0f} s or "
                "more on requests that have ended; restart the service"
            )

    async def run_off_loop(self, work: Callable[[], T]) -> T:
        """Runs work that grows with the body of a request; of a large one, not in the event loop.

        What is done there for one request delays all others: to validate 20,000 messages took
        66 ms, to refuse 100,000 documents of a wrong type 97 ms.

        Raises:
            Overloaded: other large bodies would keep it waiting for too long.
        """
        if request_bytes.get() <= LARGE_BODY_BYTES:
            return work()
        return await self._large_bodies.submit(work, self.timeout_s)

    async def run(self, work: Callable[[QueuedRequest], T], limits: TimeLimits | None = None) -> T:
        """Admits a request that needs no model, and runs its work in a thread.

        Work that looks whether it shall go on (`probes/interruption.py`) stops at the deadline.

        Raises:
            Overloaded: at once, if there is no room. OutOfTime: a time limit passed; LimitPassed
                is the service's own.
        """

        def work_until_deadline(request: QueuedRequest) -> T:
            with request.stopping_at_deadline():
                return work(request)

        limits = limits or self.limits()
        return await self._run_admitted(work_until_deadline, 0, 0, limits)

    async def run_prepared(
        self,
        prepare: Callable[[], P],
        tokens: Callable[[P], int | None],
        work: Callable[[P, QueuedRequest], T],
        priority: int = 0,
        limits: TimeLimits | None = None,
    ) -> T:
        """Prepares a request in a thread, and admits it only if it then needs the model.

        Args:
            prepare: needs no model, and stops at the deadline. tokens: about how many tokens the
                prepared request will make the model read; None for a request that needs no model
                and no admission.
            work: makes the answer of what was read until the deadline.
            priority: 0 goes first. limits: by default the service's time limit from now on.

        Raises:
            Overloaded: no room for a request that needs the model. OutOfTime: as for `run`.
        """
        limits = limits or self.limits()
        request = QueuedRequest(priority, 0.0, 0, limits.deadline, stops_at_deadline=True)
        prepared = await self._run_in(self._computing, request, lambda _: prepare(), limits)
        if (needed := tokens(prepared)) is None:
            request.stops_at_deadline = False
            return await self._run_in(self._computing, request, partial(work, prepared), limits)
        return await self._run_admitted(partial(work, prepared), needed, priority, limits)

    async def _run_admitted(
        self, work: Callable[[QueuedRequest], T], tokens: int, priority: int, limits: TimeLimits
    ) -> T:
        fingerprint = request_fingerprint.get()
        request = self.engine.admit(
            tokens, priority, limits.deadline, self._left_s(limits), fingerprint
        )
        try:
            if not tokens:
                return await self._run_in(self._computing, request, work, limits)
            return await self._run_in(self._pool, request, work, limits)
        finally:
            self.engine.release(request)

    async def _run_in(
        self,
        pool: ThreadPoolExecutor | BoundedPool,
        request: QueuedRequest,
        work: Callable[[QueuedRequest], T],
        limits: TimeLimits,
    ) -> T:
        """Runs work for a request in a thread, which is told to stop when nobody waits any more."""
        left_s = self._left_s(limits)
        contained = partial(self._run_as_request, work, request, pool is self._computing)
        if isinstance(pool, BoundedPool):
            future = pool.submit(contained, left_s)
        else:
            future = asyncio.get_running_loop().run_in_executor(pool, contained)
        future.add_done_callback(_ignore_late_error)
        try:
            done, _ = await asyncio.wait({future}, timeout=left_s)
        except asyncio.CancelledError:
            request.end(ClientDisconnected("the client hung up"))
            future.cancel()
            raise
        if done:
            if future.cancelled():  # by `close`, while it waited for a thread
                raise Unavailable("the service is shutting down", 1.0)
            return future.result()
        late = self._late_error(request)
        request.end(late)
        future.cancel()
        raise late

    def _run_as_request(
        self, work: Callable[[QueuedRequest], T], request: QueuedRequest, computes: bool
    ) -> T:
        if computes:
            self._computed.add(request)
        try:
            with request.as_current():
                return work(request)
        except Exception:
            raise
        except BaseException as error:  # a panic in Rust is no Exception and would end the server
            raise RuntimeError(type(error).__name__) from error
        finally:
            self._computed.discard(request)

    def _late_error(self, request: QueuedRequest) -> Refused:
        """The error of a request whose time is over: other work stood in its way, or none did."""
        if self._computing.pieces <= 1 and self.engine.queue_load().requests <= 1:
            return self.out_of_time()
        return self.engine.queue.late_error(request) or self._computing.overload_error()

    def _left_s(self, limits: TimeLimits) -> float:
        if (left_s := limits.expires - time.monotonic()) <= 0:
            raise self.out_of_time()
        return left_s

    def out_of_time(self) -> LimitPassed:
        """The error of a call that takes longer than the service's time limit."""
        return LimitPassed(
            f"the request was not done within {self.timeout_s:g} s; send fewer or shorter "
            "documents, or a shorter question, or start the service with a longer --timeout-s"
        )

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for pool in (self._computing, self._large_bodies):
            pool.close()


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
    task = asyncio.ensure_future(work)
    disconnect = asyncio.ensure_future(_wait_for_disconnect(receive))
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


class BoundedPool:
    """A thread pool that refuses work which would not be done in time.

    The time is predicted from the bytes that wait, by the rate at which bytes were worked through
    of late. Work that nothing stands before is always taken.

    Args:
        threads: few: work in Python holds the interpreter, and more would wait for each other.
        most: how many pieces of work may wait or run.

    Attributes:
        pieces: how many wait or run now.
    """

    def __init__(self, threads: int, name: str, most: int) -> None:
        self.most = most
        self._pool = ThreadPoolExecutor(threads, name)
        self._lock = threading.Lock()
        self.pieces = self._bytes = 0
        self._done_bytes = self._busy_s = self._looked_at = 0.0
        """Bytes that were done, the seconds that they took, and when that was last counted."""

    def submit(self, work: Callable[[], T], limit_s: float) -> asyncio.Future[T]:
        """Runs work in a thread; if the future is cancelled before it begins, it does not.

        Raises:
            Overloaded: it would not be done within `limit_s`. Unavailable: the pool is closed, or
                the system gives it no thread.
        """
        size = request_bytes.get() + _OVERHEAD_BYTES
        with self._lock:
            self._check_room(size, limit_s)
            self._measure_busy_time()
            self.pieces += 1
            self._bytes += size
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._record(size, was_cancelled=True)
            raise Unavailable(f"nothing can be worked on here: {error}", 1.0) from error
        future.add_done_callback(lambda done: self._record(size, done.cancelled()))
        return asyncio.wrap_future(future)

    def overload_error(self) -> Overloaded:
        """The error of work that was not done in its time because of other work."""
        with self._lock:
            wait_s = self._bytes * self._busy_s / self._done_bytes if self._done_bytes else 1.0
            return Overloaded(
                "other requests are being worked on, too many for this one to be done in its time",
                wait_s,
            )

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check_room(self, size: int, limit_s: float) -> None:
        if not self.pieces:
            return
        needed_s = 0.0
        if self._done_bytes:
            needed_s = (self._bytes + size) * self._busy_s / self._done_bytes
        if self.pieces >= self.most or needed_s > _USABLE * limit_s:
            raise Overloaded(
                f"{self.pieces} requests are being worked on, and this one would be done in about "
                f"{needed_s:.0f} s",
                max(needed_s - _USABLE * limit_s, needed_s / self.pieces),
            )

    def _measure_busy_time(self) -> None:
        now = time.monotonic()
        if self.pieces:
            self._busy_s += now - self._looked_at
        self._looked_at = now

    def _record(self, size: int, was_cancelled: bool) -> None:
        with self._lock:
            self._measure_busy_time()
            self.pieces -= 1
            self._bytes -= size
            if not was_cancelled:
                self._done_bytes = _RATE_DECAY * self._done_bytes + size
                self._busy_s *= _RATE_DECAY
