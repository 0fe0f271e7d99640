"""Threads that come and go leave no heaps of their own behind."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

GROWN = """
import threading
from pathlib import Path
from tamis.service.heaps import share_heaps

shared = share_heaps()
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
