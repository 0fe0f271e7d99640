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

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0
        self._found: OrderedDict[Hashable, tuple[int, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, cost: int, make: Callable[[], T]) -> T:
        """What was made for the key, or is made now. What is made must not be changed."""
        with self._lock:
            if (known := self._found.get(key)) is not None:
                self._found.move_to_end(key)
                return known[1]
        made = make()
        if cost <= self.most // 10:
            self._hold(key, cost, made)
        return made

    def _hold(self, key: Hashable, cost: int, made: T) -> None:
        with self._lock:
            before = self._found.pop(key, None)
            self.held += cost - (before[0] if before else 0)
            self._found[key] = (cost, made)
            while self.held > self.most:
                self.held -= self._found.popitem(last=False)[1][0]
