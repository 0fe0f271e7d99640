"""From an HTTP request to a thread and back: admission, time, and clients that hang up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tamis.service.engine.engine import Engine
from tamis.service.engine.errors import Gone, OutOfTime
from tamis.service.engine.request import Ticket

T = TypeVar("T")
_CHARS_A_TOKEN, _DENSE_CHARS_A_TOKEN = 4, 2
_WORDS_AROUND = 32


def guessed_tokens(question: str, texts: list[str]) -> int:
    """About how many tokens a request has, before anything is tokenised."""
    asked = _guess(question) + _WORDS_AROUND
    return sum(_guess(text) + asked * (1 + _guess(text) // 480) for text in texts)


def _guess(text: str) -> int:
    return len(text) // (_CHARS_A_TOKEN if text.isascii() else _DENSE_CHARS_A_TOKEN) + 1


class Desk:
    """Lets requests in and runs them in threads; the model is not touched here.

    As many threads as requests may be in: none waits for a thread, and most only wait for signals.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self.engine, self.timeout_s = engine, timeout_s
        self._pool = ThreadPoolExecutor(engine.bounds.max_requests + 8, "tamis-request")

    async def run(
        self,
        work: Callable[[Ticket], T],
        tokens: int,
        priority: int = 0,
        timeout_ms: int | None = None,
    ) -> T:
        """Runs the work of a request.

        Args:
            tokens: about how many it will have read.
            priority: 0 goes first.
            timeout_ms: when to answer with what there is.

        Raises:
            Overloaded: at once, if there is no room. OutOfTime: the service's own limit came.
        """
        deadline = None if timeout_ms is None else time.monotonic() + timeout_ms / 1e3
        ticket = self.engine.admit(tokens, priority, deadline)
        try:
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._pool, _with_ticket, work, ticket)
            running.add_done_callback(_looked_at)
            done, _ = await asyncio.wait({running}, timeout=self.timeout_s)
            if not done:
                late = OutOfTime(
                    f"the request was not done within {self.timeout_s:g} s; send fewer or shorter "
                    "documents, or start the service with a longer --timeout-s"
                )
                ticket.end(late)
                raise late
            return running.result()
        except asyncio.CancelledError:
            ticket.end(Gone("the client hung up"))
            raise
        finally:
            self.engine.leave(ticket)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _with_ticket(work: Callable[[Ticket], T], ticket: Ticket) -> T:
    with ticket.held_here():
        try:
            return work(ticket)
        except Exception:
            raise
        except BaseException as error:  # Rust's panics are none of Exception, and end the server
            raise RuntimeError(type(error).__name__) from error


def _looked_at(future: asyncio.Future[Any]) -> None:
    """An error that comes after its client has gone is nobody's."""
    if not future.cancelled():
        future.exception()


async def attended(receive: Callable[[], Awaitable[Any]], work: Coroutine[Any, Any, T]) -> T:
    """Does the work while the client is there.

    Raises:
        Gone: it hung up; the work was cancelled.
    """
    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(_hung_up(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Gone("the client hung up")
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def _hung_up(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
