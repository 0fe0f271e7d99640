"""What was made of the last texts, so that a text that comes again costs nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """Results by key, the last used ones; safe between threads.

    Args:
        most: units of cost, such as characters, of all that is held. Something that alone costs
            more than a tenth of it is not held.
    """

    def __init__(self, max_cost: int) -> None:
        self.max_cost, self.cost = max_cost, 0
        self._entries: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, cost: int, make: Callable[[], T]) -> T:
        """What was made for the key, or is made now. What is made must not be changed."""
        with self._lock:
            if (known := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
                return known[1]
        made = make()
        if cost <= self.max_cost // 10:
            self._store(key, cost, made)
        return made

    def _store(self, key: Hashable, cost: int, made: T) -> None:
        with self._lock:
            before = self._entries.pop(key, None)
            self.cost += cost - (before[0] if before else 0)
            self._entries[key] = (cost, made)
            while self.cost > self.max_cost:
                self.cost -= self._entries.popitem(last=False)[1][0]
