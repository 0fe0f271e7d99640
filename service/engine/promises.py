"""When a refused request may come back: how fast the model reads, and what was promised so far."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

UNKNOWN_RATE = 200.0
"""Tokens a second until a batch was read: few, so that what is admitted is read in time."""
_DECAY = 0.8
_BEST_DECAY = 0.98
"""By which the best rate is forgotten with each batch."""
_MOST_OVER_LATEST = 1.25
"""The rate is at most so many times that of the latest two batches, and of the one being read: when
a machine slows down, what was promised at its old speed cannot be kept."""
_GRACE_S = 2.0
"""How long after its time a promise is kept; `Retry-After` is in whole seconds."""
_MAX_PROMISES = 1024


class ReadingRate:
    """Tokens a second. Not thread-safe: the queue has a lock."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0
        self._latest: list[tuple[int, float]] = []
        self._batch: tuple[int, float] | None = None
        self.best = UNKNOWN_RATE
        """The best of late."""

    @property
    def is_known(self) -> bool:
        """Whether a batch was read."""
        return self._seconds > 0

    def begin(self, tokens: int) -> None:
        """A batch is being read from now on."""
        self._batch = tokens, time.monotonic()

    def end(self) -> None:
        """No batch is being read, though the last one may never have been read to its end."""
        self._batch = None

    def record(self, tokens: int, seconds: float) -> None:
        """A batch was read."""
        self.end()
        self._tokens = _DECAY * self._tokens + tokens
        self._seconds = _DECAY * self._seconds + max(seconds, 1e-6)
        self._latest = [*self._latest[-1:], (tokens, seconds)]
        self.best = max(_BEST_DECAY * self.best, self.average)

    @property
    def average(self) -> float:
        """Over the last batches, newer ones weighted more."""
        return max(self._tokens / self._seconds, 1e-3) if self._seconds else UNKNOWN_RATE

    @property
    def current(self) -> float:
        """The average, and less as soon as the model has become slow."""
        if not self._seconds:
            return UNKNOWN_RATE
        read = [(sum(n for n, _ in self._latest), sum(s for _, s in self._latest))]
        if self._batch is not None:
            tokens, since = self._batch
            read.append((tokens, time.monotonic() - since))
        latest = min(tokens / max(seconds, 1e-6) for tokens, seconds in read)
        return max(min(self.average, _MOST_OVER_LATEST * latest), 1e-3)


@dataclass(frozen=True, slots=True)
class _Promise:
    """Room for a refused request, from a time on."""

    at: float
    tokens: float


class Promises:
    """Room that was promised to refused requests, by their keys. Not thread-safe.

    A request without a key cannot be found again: it is told a time, and nothing is kept for it.
    """

    def __init__(self) -> None:
        self._promises: dict[int, _Promise] = {}

    def is_due(self, key: int | None, now: float) -> bool:
        """Whether a request has come back when it was told to."""
        promise = self._find(key)
        return promise is not None and promise.at <= now

    def redeem(self, key: int | None) -> None:
        """A request was admitted: nothing is kept for it any more."""
        if key is not None:
            self._promises.pop(key, None)

    def fits(self, work: float, capacity: float, rate: float, key: int | None, now: float) -> bool:
        """Whether every promise to others still holds with so much work in the queue.

        Args:
            work: tokens in the queue, those of the newcomer included.
            capacity: the most tokens there when a promise comes due.
            rate: tokens a second.
        """
        for promise in self._to_others(key, now):
            work += promise.tokens
            if work - max(0.0, promise.at - now) * rate > capacity:
                return False
        return True

    def make(
        self,
        key: int | None,
        tokens: float,
        work: float,
        capacity: float,
        rate: float,
        at_least_s: float,
        longest_s: float,
        now: float,
    ) -> float:
        """Seconds until there is room for a refused request, which is then kept for it.

        Nothing is kept for one that has to wait longer than `longest_s`: room that is promised far
        ahead, mostly to those who will not come, would be nobody's until then.

        Args:
            tokens: that it needs.
            work: tokens of the others in the queue.
            capacity, rate: as in `fits`.
        """
        others = self._to_others(key, now)
        earlier = self._find(key)
        if earlier is not None and earlier.at > now:
            return earlier.at - now
        work += tokens + sum(promise.tokens for promise in others)
        wait_s = max(at_least_s, (work - capacity) / rate)
        if key is not None and wait_s <= longest_s and len(others) < _MAX_PROMISES:
            self._promises[key] = _Promise(now + max(1, math.ceil(wait_s)), tokens)
        return wait_s

    def _find(self, key: int | None) -> _Promise | None:
        return None if key is None else self._promises.get(key)

    def _to_others(self, key: int | None, now: float) -> list[_Promise]:
        """Promises to other requests that are still kept, the earliest first."""
        self._promises = {k: p for k, p in self._promises.items() if p.at + _GRACE_S > now}
        others = [p for k, p in self._promises.items() if k != key]
        return sorted(others, key=lambda p: p.at)
