"""Threads get no heaps of their own, start-up objects are not collected again, and what requests
leave is given back when nothing is served."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import time
import weakref

import pytest
from fastapi import FastAPI

from tamis.service.http.middleware.request_log import RequestLogMiddleware
from tamis.service.http.runtime import memory
from tamis.service.http.runtime.memory import IdleMemory
from tamis.service.http.runtime.telemetry import Metrics, create_logger
from tests.service.http.app_kit import BODY, pointing, served, wait_until

GROWN = """
import threading
from pathlib import Path
from tamis.service.http.runtime.memory import limit_heaps

shared = limit_heaps()
held, meet = [], threading.Barrier(12)

def work():
    meet.wait()
    held.append([bytearray(1000) for _ in range(300)])

threads = [threading.Thread(target=work) for _ in range(12)]
[t.start() for t in threads]
[t.join() for t in threads]
maps = Path("/proc/self/maps").read_text().splitlines()
reserved = [int(b, 16) - int(a, 16) for a, b in (line.split()[0].split("-") for line in maps)]
print(shared, sum(size > 50 << 20 for size in reserved))
"""

SERVED = """
import gc, sys, threading, time
from tamis.service.http.runtime import memory
from tamis.service.http.server import create_server
from tamis.service.http.runtime.settings import Settings

only = {"method": "lexical", "methods": ("lexical",)}
running = create_server(Settings(port=0, threads=1, log_level="error", **only))

class Ring:
    pass

def ring():
    one = Ring()
    one.one = one

def look():
    until = time.monotonic() + 300
    while gc.get_threshold()[0] < 50_000 and time.monotonic() < until:
        time.sleep(0.05)
    swept = len(gc.get_objects())
    ring()
    collected = gc.collect()
    before = gc.get_stats()[2]["collections"]
    held = [(i,) for i in range(1_000_000)]
    full = gc.get_stats()[2]["collections"] - before
    print(gc.get_freeze_count(), swept, collected, full)
    running.should_exit = True

threading.Thread(target=look, daemon=True).start()
running.run()
"""

LEFT = """
from pathlib import Path
from tamis.service.http.runtime.memory import give_memory_back, limit_heaps

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) >> 8   # MiB of pages of 4 KiB

limit_heaps()
made = [bytearray(2000) for _ in range(100_000)]
made = made[-1:]   # the last one lies on top of the heap, so malloc itself gives nothing back
before = resident()
print(give_memory_back(), before - resident())
"""


def heaps(**variables: str) -> tuple[str, int]:
    """Whether heaps were shared, and how many great stretches of memory twelve threads reserved."""
    env = {k: v for k, v in os.environ.items() if k != "MALLOC_ARENA_MAX"} | variables
    done = subprocess.run(
        [sys.executable, "-c", GROWN], capture_output=True, text=True, check=True, env=env
    )
    shared, count = done.stdout.split()
    return shared, int(count)


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have no such heaps")
def test_threads_share_heaps_unless_the_user_decides():
    shared, few = heaps()
    decided, more = heaps(MALLOC_ARENA_MAX="8")
    assert (shared, decided) == ("True", "False")
    assert few < more


def test_a_service_that_is_ready_sweeps_what_requests_make_and_not_what_it_loaded(proxy_folder):
    done = subprocess.run(
        [sys.executable, "-c", SERVED], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    out_of_the_way, swept, collected, full = map(int, done.stdout.split())
    assert out_of_the_way > 100_000 > 10 * swept
    assert collected >= 1
    assert full == 0  # a million objects of a request stop nobody


def test_what_a_service_read_with_goes_with_it():
    """FastAPI keeps endpoints for good, and what they hold: no endpoint may hold its app."""
    reader = pointing()
    held = weakref.ref(reader)
    with served(reader, warmup=False) as service:
        assert service.post("/v1/compress", **BODY).status_code == 200
        assert service.http.get("/docs").status_code == 200
    del reader, service
    gc.collect()
    assert held() is None


def test_a_server_in_a_thread_leaves_the_collector_of_its_process_alone():
    """What is frozen is never collected: models of a program that served once would stay."""
    frozen, threshold = gc.get_freeze_count(), gc.get_threshold()
    with served(method="lexical", methods=("lexical",)):
        assert gc.get_freeze_count() <= frozen
        assert gc.get_threshold() == threshold


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries have no such call")
def test_free_pages_go_back_to_the_system_below_pages_in_use():
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, check=True)
    returned, mib = done.stdout.split()
    assert returned == "True"
    assert int(mib) > 150


def test_memory_is_given_back_once_after_work_and_never_during_it(monkeypatch):
    given: list[float] = []
    monkeypatch.setattr(memory, "give_memory_back", lambda: given.append(time.monotonic()))
    monkeypatch.setattr(memory.IdleMemory.__init__, "__defaults__", (0.2, 0, None))
    with served(methods=("lexical",), method="lexical") as service:
        time.sleep(0.6)
        service.http.get("/livez")
        time.sleep(0.6)
        assert not given, "nothing but probes was served"
        sent = time.monotonic()
        answered = service.post("/v1/compress", query="q", documents=["A b c."], max_tokens=9)
        assert answered.status_code == 200
        wait_until(lambda: bool(given))
        assert given[0] - sent > 0.2  # a fifth of a second after it had ended
        time.sleep(0.6)
        assert len(given) == 1


def test_memory_is_not_due_while_a_request_runs_beside_one_that_ended():
    idle = IdleMemory(0.0)
    assert not idle.is_due(), "there was no work"
    idle.requests, idle.worked_until = 1, time.monotonic()
    assert not idle.is_due(), "one still runs"
    idle.requests = 0
    assert idle.is_due()


def test_streams_and_failures_count_as_work_until_they_end():
    idle = IdleMemory()
    seen: list[int] = []

    async def app(scope, receive, send):
        seen.append(idle.requests)
        if scope["path"] == "/broken":
            raise asyncio.CancelledError
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ignore(*_: object) -> None:
        pass

    layer = RequestLogMiddleware(app, Metrics(), create_logger("json", "error"), idle)
    outer = FastAPI()
    for path, running in (("/v1/compress", 1), ("/livez", 0), ("/broken", 1)):
        scope = {"type": "http", "method": "GET", "path": path, "headers": [], "app": outer}
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(layer(scope, ignore, ignore))
        assert (seen.pop(), idle.requests) == (running, 0)
    assert idle.worked_until is not None
