"""The server process: sockets, signals, and time limits for slow clients."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from concurrent.futures import Future
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.service.http.app import create_app
from tamis.service.http.runtime.memory import collect_rarely, freeze_startup_objects
from tamis.service.http.runtime.settings import Settings, http_url
from tamis.service.http.runtime.telemetry import create_logger

_GRACE_S = 3.0
"""What closing takes after the drain time, with the second more that uvicorn waits."""
_NOT_ALL_SERVED = 1
"""The exit status where a thread had to be abandoned."""


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol with a time limit for headers; a late connection is closed.

    uvicorn itself waits for ever for the end of the headers: a few hundred clients that send a byte
    a minute would occupy every connection allowed.
    """

    header_timeout_s = 10.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_or_stop_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._start_or_stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._cancel_timer()

    def _start_or_stop_timer(self) -> None:
        if not self._is_idle():
            self._cancel_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.header_timeout_s, self._close_if_idle)

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close_if_idle(self) -> None:
        self._timer = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Logs where it listens; on SIGTERM reports unready and stops after `drain_delay_s`."""

    def __init__(self, config: uvicorn.Config, app: Any, settings: Settings) -> None:
        super().__init__(config)
        self.app, self.settings = app, settings
        self._last_resort: threading.Timer | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen once the model is loaded."""
        await super().startup(sockets)
        if self.started:
            # in another thread it is a guest in somebody's process, whose garbage it would keep
            if threading.current_thread() is threading.main_thread():
                freeze_startup_objects()
                collect_rarely()
            host, port = self.servers[0].sockets[0].getsockname()[:2]
            log = create_logger(self.settings.log_format, self.settings.log_level)
            log.info("listening", url=http_url(host, port))

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Serves on for `drain_delay_s` while it reports unready; a second signal stops at once."""
        self._end_in_time()
        if sig != signal.SIGTERM:
            super().handle_exit(sig, frame)
            return
        # not uvicorn's own handler: after a clean shutdown it raises the signal again (status 143)
        state = getattr(self.app.state, "service_state", None)
        if state is None or state.engine.draining or not self.settings.drain_delay_s:
            self.should_exit = True
            return
        state.engine.draining = True
        loop, stop = asyncio.get_running_loop(), partial(setattr, self, "should_exit", True)
        loop.call_soon_threadsafe(loop.call_later, self.settings.drain_delay_s, stop)

    def _end_in_time(self) -> None:
        """Ends the process when its time is over: a thread that computes cannot be stopped."""
        if self._last_resort is None:
            time_s = self.settings.drain_delay_s + self.settings.drain_timeout_s + _GRACE_S
            self._last_resort = threading.Timer(time_s, os._exit, (_NOT_ALL_SERVED,))
            self._last_resort.daemon = True
            self._last_resort.start()


def create_server(settings: Settings, app: Any = None) -> Server:
    """A server for an app; by default for a new app with these settings."""
    app = app or create_app(settings)
    protocol = type(
        "Protocol", (HeaderTimeoutProtocol,), {"header_timeout_s": settings.header_timeout_s}
    )
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http=protocol,
        ws="none",  # nothing here speaks it, and its own protocol has neither log nor time limits
        access_log=False,
        log_level="critical",  # requests and faults go to tamis's own log
        limit_concurrency=settings.max_connections,
        timeout_graceful_shutdown=int(settings.drain_timeout_s) + 1,
        server_header=False,
    )
    return Server(config, app, settings)


def run(settings: Settings, loading: Future[Reader]) -> None:
    """Serves until a signal stops the process.

    Args:
        loading: of the settings' proxy; see `begin_loading`.

    Raises:
        TamisError: the service cannot start.
    """
    running = create_server(settings, create_app(settings, loading))
    try:
        running.run()
    except SystemExit:
        failure: Exception | None = getattr(running.app.state, "failure", None)
        raise failure or BadInput("the service could not be started; see the lines above") from None
