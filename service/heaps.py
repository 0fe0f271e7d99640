"""Memory of many threads: a few heaps for all of them."""

from __future__ import annotations

import ctypes
import os

_M_ARENA_MAX = -8  # of glibc's malloc.h
MOST = 2


def share_heaps() -> bool:
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
        return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, MOST))
    except (OSError, AttributeError, TypeError):
        return False
