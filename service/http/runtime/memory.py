"""Memory of a long-running process: few malloc heaps, few collections, none of start-up objects.

What is left of requests is given back once nothing has been served for a while.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import time
from dataclasses import dataclass

_M_ARENA_MAX = -8  # of glibc's malloc.h
MAX_HEAPS = 2
_THRESHOLDS = 50_000, 20, 100
"""A collection waits for so many objects made and not freed, or younger collections."""


def limit_heaps() -> bool:
    """Makes glibc use at most two heaps, unless MALLOC_ARENA_MAX is set.

    By default each new thread gets a heap of its own, which grows by megabytes and never shrinks:
    memory then grows with the largest number of requests ever served at the same time. Call it
    before other threads allocate.

    Returns:
        Whether the limit was set: not where MALLOC_ARENA_MAX is set, nor with another C library.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MAX_HEAPS))
    except (OSError, AttributeError, TypeError):
        return False


def freeze_startup_objects() -> int:
    """Excludes objects loaded at start-up (modules, the model) from garbage collection.

    A full collection otherwise walks all of them while every thread waits, a quarter of a second
    every few hundred requests. Call it once everything is loaded, only in a process of one's own;
    objects made by requests are collected as before. What is garbage by then stays: some 10,000
    objects of imports, which a collection would seek for a fifth of a second.

    Returns:
        How many objects are excluded.
    """
    gc.freeze()
    return gc.get_freeze_count()


def collect_rarely() -> None:
    """Lets the cyclic collector run seldom, and over everything hardly ever.

    A request of half a million sentences makes millions of objects; at Python's thresholds each
    full collection stops all threads, up to half a second at a time. Requests free what they made
    by reference counts; only cycles, such as those of exceptions, wait a little longer. Only in a
    process of one's own. Ends a pause of the collector, too.
    """
    gc.set_threshold(*_THRESHOLDS)
    gc.enable()


def give_memory_back() -> bool:
    """Frees cycles that requests left, and returns free pages of malloc's heaps to the system.

    Returns:
        Whether pages were returned: not with another C library than glibc, or if none were free.
    """
    gc.collect()
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):
        return False


@dataclass(slots=True)
class IdleMemory:
    """Gives memory back when nothing has been served for `idle_s`, once after each time of work.

    Giving back stops all threads for some tenths of a second, so not while requests are served.

    Attributes:
        requests: that are being served.
        worked_until: when the last one ended, by `time.monotonic`; None if memory was given back
            since.
    """

    idle_s: float = 10.0
    requests: int = 0
    worked_until: float | None = None

    def is_due(self) -> bool:
        """Whether there was work since the last time, and none for `idle_s`."""
        since = self.worked_until
        return not self.requests and since is not None and time.monotonic() - since >= self.idle_s

    async def watch(self) -> None:
        """Gives back whenever it is due, until it is cancelled."""
        while True:
            await asyncio.sleep(self.idle_s / 4)
            if self.is_due():
                self.worked_until = None
                await asyncio.to_thread(give_memory_back)
