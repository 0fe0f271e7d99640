"""Threads for work in Python, and a bound on how long it waits for one."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

from tamis.service.engine.errors import Overloaded, Unavailable

T = TypeVar("T")
_OVERHEAD_BYTES = 10_000
"""What a piece of work costs beside its bytes, in bytes."""
_RATE_DECAY = 0.9
_USABLE = 0.8
"""The part of a time limit that predicted waiting and working may take."""
request_bytes: ContextVar[int] = ContextVar("request_bytes", default=0)
"""The bytes of text that the work of this context is for: those of its request, or a share."""


class BoundedPool:
    """A thread pool that refuses work which would not be done in time.

    The time is predicted from the bytes that wait, by the rate at which bytes were worked through
    of late. Work that nothing stands before is always taken.

    Args:
        threads: few: work in Python holds the interpreter, and more would wait for each other.
        most: how many pieces of work may wait or run.
    """

    def __init__(self, threads: int, name: str, most: int) -> None:
        self.most = most
        self._pool = ThreadPoolExecutor(threads, name)
        self._lock = threading.Lock()
        self._pieces = self._bytes = 0
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
            self._pieces += 1
            self._bytes += size
        try:
            future = self._pool.submit(work)
        except RuntimeError as error:
            self._record(size, was_cancelled=True)
            raise Unavailable(f"nothing can be worked on here: {error}", 1.0) from error
        future.add_done_callback(lambda done: self._record(size, done.cancelled()))
        return asyncio.wrap_future(future)

    @property
    def pieces(self) -> int:
        """How many pieces of work wait or run."""
        return self._pieces

    def overload_error(self) -> Overloaded:
        """The error of work that was not done in its time because of other work."""
        with self._lock:
            wait_s = self._bytes * self._busy_s / self._done_bytes if self._done_bytes else 1.0
            return Overloaded(
                "other requests are being worked on, too many for this one to be done in its time; "
                "come back after Retry-After",
                wait_s,
            )

    def close(self) -> None:
        """Stops the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _check_room(self, size: int, limit_s: float) -> None:
        if not self._pieces:
            return
        needed_s = 0.0
        if self._done_bytes:
            needed_s = (self._bytes + size) * self._busy_s / self._done_bytes
        if self._pieces >= self.most or needed_s > _USABLE * limit_s:
            raise Overloaded(
                f"{self._pieces} requests are being worked on, and this one would be done in about "
                f"{needed_s:.0f} s; come back after Retry-After",
                max(needed_s - _USABLE * limit_s, needed_s / self._pieces),
            )

    def _measure_busy_time(self) -> None:
        now = time.monotonic()
        if self._pieces:
            self._busy_s += now - self._looked_at
        self._looked_at = now

    def _record(self, size: int, was_cancelled: bool) -> None:
        with self._lock:
            self._measure_busy_time()
            self._pieces -= 1
            self._bytes -= size
            if not was_cancelled:
                self._done_bytes = _RATE_DECAY * self._done_bytes + size
                self._busy_s *= _RATE_DECAY
