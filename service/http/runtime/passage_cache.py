"""The passage cache of a service, and what reading costs with it."""

from __future__ import annotations

from typing import Any

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import Prompt
from tamis.service.http.runtime.settings import Settings


class ServicePassageCache:
    """The passage cache of the settings; without `cache_bytes` it does nothing."""

    def __init__(self, settings: Settings) -> None:
        self.cache: Any = None
        self._reader: Any = None
        if settings.cache_bytes:
            from tamis.probes.kv_cache.cache import PassageCache

            self.cache = PassageCache(
                settings.cache_bytes, settings.cache_folder, settings.cache_storage
            )

    def wrap(self, reader: Any) -> Reader:
        """A reader that uses the cache; one that cannot keep keys is returned unchanged."""
        if self.cache is None or not hasattr(reader, "read_with_kv"):
            unchanged: Reader = reader
            return unchanged
        from tamis.probes.kv_cache.cache import CachedReader

        self._reader = CachedReader(reader, self.cache)
        wrapped: Reader = self._reader
        return wrapped

    def tokens_to_read(self, prompt: Prompt) -> int:
        """Tokens that reading a prompt costs: only the question's where the passage is cached."""
        if self._reader is None or not self.cache.holds(self._reader.key(prompt)):
            return len(prompt)
        return len(prompt.question.ids)
