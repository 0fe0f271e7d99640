"""A service on a real socket, with a scripted reader unless a test brings a model."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.service.http.app import create_app
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.server import create_server
from tests.scripted import ScriptedReader

NEEDLE = "Keys are rotated every 90 days."
DOCUMENTS = [
    f"The wall is blue. {NEEDLE} Rooms are painted in spring.",
    "Nothing is said here. Nobody knows why.",
]
QUESTION = "How often are keys rotated?"
BODY = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}


@dataclass
class Running:
    """A running service: its address, its app and a client."""

    url: str
    app: Any
    http: httpx.Client
    event_loop: asyncio.AbstractEventLoop

    @property
    def service_state(self) -> ServiceState:
        return self.app.state.service_state

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(path, json=body)

    def raw(self, path: str, data: bytes, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(
            path, content=data, headers={"content-type": "application/json", **named}
        )


def pointing() -> ScriptedReader:
    """A scripted reader that attends to the needle and hardly to anything else."""
    return ScriptedReader.from_needles(NEEDLE)


@contextmanager
def served(reader: Any = None, **knobs: Any) -> Iterator[Running]:
    """A service in a thread of this process, on a free port."""
    # two threads beside other work take many times as long as one
    settings = Settings(**{"port": 0, "log_level": "error", "threads": 1, **knobs})
    app = create_app(settings, pointing() if reader is None else reader)
    running = create_server(settings, app)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    wait_until(lambda: running.started or not thread.is_alive())
    assert running.started
    port = running.servers[0].sockets[0].getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    try:
        with httpx.Client(base_url=url, timeout=600) as http:
            yield Running(url, app, http, running.servers[0].get_loop())
    finally:
        running.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


def connected(service: Running) -> socket.socket:
    """A raw connection, to send what no HTTP client would."""
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def wait_until(true: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits for a condition that another thread fulfils."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


def listens(port: int) -> bool:
    """Whether something on this machine accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def busy_ratio() -> float:
    """How many times as long as on an idle machine work takes at present; at least 1.

    Limits of seconds are multiplied by it: other jobs on the machine are no fault of the service.
    """
    began, worked = time.perf_counter(), time.thread_time()
    while time.thread_time() - worked < 0.05:
        pass
    return max(1.0, (time.perf_counter() - began) / (time.thread_time() - worked))


class SlowReader(ScriptedReader):
    """A scripted reader that reads so many tokens a second."""

    def __init__(self, inner: ScriptedReader, tokens_per_second: float) -> None:
        super().__init__(inner.weigh)
        self.tokens_per_second = tokens_per_second

    def read(self, prompts: list[Prompt], want: Want) -> Iterator[Any]:
        time.sleep(sum(map(len, prompts)) / self.tokens_per_second)
        yield from super().read(prompts, want)

    def with_template(self, template: Any) -> SlowReader:
        assert template == self.layout.template
        return self


class Gated(ScriptedReader):
    """A scripted reader that reads only while its gate is open, and records what it read.

    As a context manager it opens the gate at the end, so that a test that fails leaves no thread
    behind that waits for it; enter it after the pool whose threads wait.
    """

    def __init__(self, inner: ScriptedReader, batches: int = 0) -> None:
        super().__init__(inner.weigh)
        self.gate = threading.Semaphore(batches)
        self.reads: list[list[str]] = []
        self.calls = 0

    def read(self, prompts: list[Prompt], want: Want) -> Iterator[Any]:
        self.calls += 1
        self.gate.acquire()
        self.reads.append([bytes(p.passage.ids).decode("utf-8", "replace") for p in prompts])
        yield from super().read(prompts, want)

    def with_template(self, template: Any) -> Gated:
        assert template == self.layout.template  # one template is enough for these tests
        return self

    def open(self) -> None:
        self.gate.release(1000)

    def __enter__(self) -> Gated:
        return self

    def __exit__(self, *_: object) -> None:
        self.open()


@contextmanager
def hold_until_end() -> Iterator[threading.Event]:
    """An event for threads to wait for, set at the end, whether or not the test fails."""
    event = threading.Event()
    try:
        yield event
    finally:
        event.set()
