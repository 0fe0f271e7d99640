"""Answers to `/v1/compress`, kept for the same request again: bounded in bytes, off by default."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

ENTRY_BYTES = 512
"""What an entry takes beside its answer, about."""


@dataclass(frozen=True, slots=True)
class KeptResult:
    """An answer as it was sent, and the tokens that its request saved.

    Attributes:
        headers: names and values beside those of every answer.
    """

    body: bytes
    headers: tuple[tuple[str, str], ...]
    tokens_in: int
    tokens_out: int

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        return len(self.body) + ENTRY_BYTES


@dataclass(slots=True)
class ResultCacheStats:
    """What the cache has, and how often it was of use."""

    bytes: int = 0
    entries: int = 0
    hits: int = 0
    misses: int = 0
    evicted: int = 0


class ResultCache:
    """Answers by request; those that were not asked for the longest go first. Thread-safe.

    Args:
        max_bytes: of all answers; 0 for no cache.
        versions: of tamis and of the models: what an answer depends on beside its request.
    """

    def __init__(self, max_bytes: int, versions: Sequence[str] = ()) -> None:
        self.max_bytes, self._versions = max_bytes, "\n".join(versions).encode()
        self._kept: OrderedDict[bytes, KeptResult] = OrderedDict()
        self._stats, self._lock = ResultCacheStats(), threading.Lock()

    def key_of(self, owner: str, body: bytes) -> bytes:
        """What a request is found by: all of it, the models, and whose it is.

        Args:
            owner: of the API key; what others asked is not found.
        """
        parts = (self._versions, owner.encode("utf-8", "surrogatepass"), body)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def find(self, key: bytes) -> KeptResult | None:
        """The answer to a request, or None."""
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                self._stats.misses += 1
            else:
                self._stats.hits += 1
                self._kept.move_to_end(key)
            return found

    def keep(self, key: bytes, result: KeptResult) -> None:
        """Keeps an answer, unless it is larger than the whole cache."""
        if result.bytes > self.max_bytes:
            return
        with self._lock:
            self._forget(key)
            self._kept[key] = result
            self._stats.bytes += result.bytes
            while self._stats.bytes > self.max_bytes:
                self._forget(next(iter(self._kept)))
                self._stats.evicted += 1

    def stats(self) -> ResultCacheStats:
        """The counts of now."""
        with self._lock:
            return replace(self._stats, entries=len(self._kept))

    def _forget(self, key: bytes) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._stats.bytes -= old.bytes
