"""A thread-safe cache of recently computed results, bounded by their total cost."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """A least-recently-used cache of results by key; safe to share between threads.

    Args:
        max_cost: upper bound of the total cost of all entries, in units that the caller chooses,
            such as characters. A result that alone costs more than a tenth of it is not stored.
    """

    def __init__(self, max_cost: int) -> None:
        self.max_cost, self.total_cost = max_cost, 0
        self._entries: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T], cost_of: Callable[[T], int]) -> T:
        """The cached result of a key, or the result of `make()`; callers must not modify it."""
        with self._lock:
            if (entry := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
                return entry[1]
        result = make()
        self.put(key, cost_of(result), result)
        return result

    def peek(self, key: Hashable) -> T | None:
        """The cached result of a key, which counts as used; None if there is none."""
        with self._lock:
            if (entry := self._entries.get(key)) is None:
                return None
            self._entries.move_to_end(key)
            return entry[1]

    def put(self, key: Hashable, cost: int, result: T) -> None:
        """Stores the result of a key."""
        if cost > self.max_cost // 10:
            return
        with self._lock:
            before = self._entries.pop(key, None)
            self.total_cost += cost - (before[0] if before else 0)
            self._entries[key] = (cost, result)
            while self.total_cost > self.max_cost:
                self.total_cost -= self._entries.popitem(last=False)[1][0]
