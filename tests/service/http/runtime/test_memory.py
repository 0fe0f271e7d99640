"""Threads get no heaps of their own, and start-up objects are not collected again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
thread = threading.Thread(target=running.run)
thread.start()
while not running.started and thread.is_alive():
    time.sleep(0.05)
time.sleep(0.2)
swept = len(gc.get_objects())

class Ring:
    pass

def ring():
    one = Ring()
    one.one = one

ring()
collected = gc.collect()
before = gc.get_stats()[2]["collections"]
held = [(i,) for i in range(1_000_000)]
full = gc.get_stats()[2]["collections"] - before
running.should_exit = True
thread.join()
print(gc.get_freeze_count(), swept, collected, full)
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
        [sys.executable, "-c", SERVED], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    out_of_the_way, swept, collected, full = map(int, done.stdout.split())
    assert out_of_the_way > 100_000 > 10 * swept
    assert collected >= 1
    assert full == 0  # a million objects of a request stop nobody
