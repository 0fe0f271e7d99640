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
            such as characters.
        largest: the cost above which a result is not stored; a tenth of `max_cost` by default. One
            that is above `max_cost` itself is stored alone.
    """

    def __init__(self, max_cost: int, largest: int | None = None) -> None:
        self.max_cost, self.total_cost = max_cost, 0
        self.largest = max_cost // 10 if largest is None else largest
        self._entries: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._entries

    def get(self, key: Hashable, make: Callable[[], T], cost_of: Callable[[T], int]) -> T:
        """The cached result of a key, or the result of `make()`; callers must not modify it."""
        if (result := self.peek(key)) is None:
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

    def put(self, key: Hashable, cost: int, result: T) -> list[T]:
        """Stores the result of a key in place of an earlier one.

        Returns:
            The results that gave way for want of room, the oldest first.
        """
        evicted: list[T] = []
        with self._lock:
            self.total_cost -= self._entries.pop(key, (0,))[0]
            if cost > self.largest:
                return evicted
            self.total_cost += cost
            self._entries[key] = (cost, result)
            while self.total_cost > self.max_cost and len(self._entries) > 1:
                lost, oldest = self._entries.popitem(last=False)[1]
                self.total_cost -= lost
                evicted.append(oldest)
        return evicted

    def clear(self) -> None:
        """Forgets all results."""
        with self._lock:
            self._entries.clear()
            self.total_cost = 0
