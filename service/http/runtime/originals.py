"""Texts that were shortened, kept for `/v1/retrieve`: bounded in bytes and seconds, by API key."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tamis.service.engine.errors import NotFound
from tamis.text.types import content_id, to_bytes

ENTRY_BYTES = 512
"""What an entry takes beside its text, about."""


@dataclass(slots=True)
class Original:
    """A text as it was before it was shortened.

    Attributes:
        data: the text in UTF-8, lone surrogates included.
        tool_name: of the call that it answers. tokens: of the text.
        lines, lines_shown: of the text, and of what was shown of it.
        expires: when it is forgotten, on the store's clock. retrievals: how often it was asked for.
    """

    data: bytes
    tool_name: str | None
    tokens: int
    lines: int
    lines_shown: int
    expires: float = 0.0
    retrievals: int = 0

    @property
    def text(self) -> str:
        """The text."""
        return self.data.decode("utf-8", "surrogatepass")

    @property
    def bytes(self) -> int:
        """What it takes in memory, about."""
        return len(self.data) + ENTRY_BYTES


@dataclass(slots=True)
class OriginalStats:
    """What the store has, and what became of its texts."""

    bytes: int = 0
    entries: int = 0
    stored: int = 0
    hits: int = 0
    misses: int = 0
    evicted: int = 0
    expired: int = 0


def text_hash(text: str) -> str:
    """The hash that a text is asked for by."""
    return content_id(to_bytes(text))


def _count_lines(text: str) -> int:
    return text.count("\n") + (text[-1:] not in ("", "\n"))


@dataclass(slots=True)
class OriginalStore:
    """Texts by their owner and hash, the oldest forgotten first. Thread-safe.

    Attributes:
        max_bytes: of all texts together; 0 keeps none. seconds: for which a text is kept.
        clock: seconds, monotonic.
    """

    max_bytes: int
    seconds: float
    clock: Callable[[], float] = time.monotonic
    _entries: OrderedDict[tuple[str, str], Original] = field(default_factory=OrderedDict)
    _stats: OriginalStats = field(default_factory=OriginalStats)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def room_for(self, text: str) -> int | None:
        """The bytes that a text would take; None if it is larger than the store."""
        needed = len(to_bytes(text)) + ENTRY_BYTES
        return needed if needed <= self.max_bytes else None

    def put(
        self, owner: str, text: str, tool_name: str | None, tokens: int, shown: str
    ) -> str | None:
        """Keeps a text for its owner from now on; its hash, or None if it is larger than the store.

        The oldest texts give way. A text that is there already is kept longer.

        Args:
            tool_name: of the call that the text answers. tokens: of the text.
            shown: what took its place.
        """
        data, lines = to_bytes(text), (_count_lines(text), _count_lines(shown))
        entry = Original(data, tool_name, tokens, *lines, self.clock() + self.seconds)
        if entry.bytes > self.max_bytes:
            return None
        key = (owner, content_id(data))
        with self._lock:
            self._drop_expired()
            if (known := self._entries.pop(key, None)) is not None:
                entry.retrievals = known.retrievals
                self._stats.bytes -= known.bytes
            while self._entries and self._stats.bytes + entry.bytes > self.max_bytes:
                self._drop_oldest()
                self._stats.evicted += 1
            self._entries[key] = entry
            self._stats.bytes += entry.bytes
            self._stats.stored += 1
        return key[1]

    def get(self, owner: str, digest: str) -> Original:
        """The text that its owner has under a hash.

        Raises:
            NotFound: there is none for this owner, be it that another has one.
        """
        with self._lock:
            self._drop_expired()
            entry = self._entries.get((owner, digest))
            if entry is None:
                self._stats.misses += 1
                raise NotFound(self._missing())
            entry.retrievals += 1
            self._stats.hits += 1
            return entry

    def stats(self) -> OriginalStats:
        """The current counts."""
        with self._lock:
            self._drop_expired()
            return replace(self._stats, entries=len(self._entries))

    def _missing(self) -> str:
        if not self.max_bytes:
            return (
                "this service keeps no originals; start it with --retrieve-bytes, such as "
                "100000000, and compress with config.mode ccr"
            )
        return (
            "there is no text of this hash for this API key: it was never kept, or is older than "
            f"{self.seconds:g} s, or gave way to newer ones; compress it again"
        )

    def _drop_expired(self) -> None:
        now = self.clock()
        while self._entries and next(iter(self._entries.values())).expires <= now:
            self._drop_oldest()
            self._stats.expired += 1

    def _drop_oldest(self) -> None:
        _, entry = self._entries.popitem(last=False)
        self._stats.bytes -= entry.bytes
