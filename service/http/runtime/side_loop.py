"""A second event loop, in a thread of its own, for requests with large bodies.

What is done in an event loop for one request delays all others. Parsing, validation and rendering
grow with the body; for large bodies they run here, so that the loop that owns the sockets only
passes bytes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class SideLoop:
    """An event loop in a daemon thread; started when it is first used."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._starting = threading.Lock()

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs an ASGI app here; `receive` and `send` stay with the loop that called.

        A cancellation of the caller cancels the app.
        """
        home = asyncio.get_running_loop()

        async def receive_from_home() -> Message:
            message: Message = await _await_in(home, receive())
            return message

        async def send_to_home(message: Message) -> None:
            await _await_in(home, send(message))

        await _await_in(self._start_loop(), _run_app(app, scope, receive_from_home, send_to_home))

    def close(self) -> None:
        """Stops the loop; what runs in it is abandoned."""
        with self._starting:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=_run_loop, args=(self._loop,), name="tamis-large-bodies", daemon=True
                ).start()
            return self._loop


async def _run_app(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _await_in(loop: asyncio.AbstractEventLoop, awaitable: Any) -> Any:
    """Awaits something in another loop; a cancellation here cancels it there."""
    coroutine: Coroutine[Any, Any, Any] = _as_coroutine(awaitable)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


async def _as_coroutine(awaitable: Any) -> Any:
    return await awaitable


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
