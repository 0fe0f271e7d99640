"""Memory of a process that serves for long: few heaps, and a start that is not swept again."""

from __future__ import annotations

import ctypes
import gc
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h
MAX_HEAPS = 2


def limit_heaps() -> bool:
    """Has glibc keep at most two heaps, unless MALLOC_ARENA_MAX says how many.

    By default each new thread has a heap of its own, which grows by megabytes and never shrinks:
    memory then grows with the number of requests that ever came at the same time. To be called
    before other threads allocate.

    Returns:
        Whether that was done: not where the user decides, nor by another C library.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MAX_HEAPS))
    except (OSError, AttributeError, TypeError):
        return False


def freeze_startup_objects() -> int:
    """Has Python's collector leave alone what was loaded to start with: modules, the model.

    A full collection otherwise walks all of it, with every thread standing still, a quarter of a
    second every few hundred requests. To be called when all is loaded, by whoever owns the
    process; what a request makes is collected as before.

    Returns:
        How many objects are out of the collector's way.
    """
    gc.collect()
    gc.freeze()
    return gc.get_freeze_count()
