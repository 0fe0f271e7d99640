"""Answers to `/v1/compress`, kept for the same request again: bounded in bytes, off by default."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tamis.probes.lru import LruCache

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
        self._kept = LruCache[KeptResult](max_bytes, max_bytes)
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
        found = self._kept.peek(key)
        with self._lock:
            self._stats.hits += found is not None
            self._stats.misses += found is None
        return found

    def keep(self, key: bytes, result: KeptResult) -> None:
        """Keeps an answer, unless it is larger than the whole cache."""
        evicted = self._kept.put(key, result.bytes, result)
        with self._lock:
            self._stats.evicted += len(evicted)

    def stats(self) -> ResultCacheStats:
        """The counts of now."""
        with self._lock:
            return replace(self._stats, bytes=self._kept.total_cost, entries=len(self._kept))
