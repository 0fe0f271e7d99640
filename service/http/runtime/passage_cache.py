"""The passage cache of a service: where it lies, and what it saves the line."""

from __future__ import annotations

from typing import Any

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import Prompt
from tamis.service.http.runtime.settings import Settings


class ServicePassageCache:
    """The cache that the settings ask for, or none."""

    def __init__(self, settings: Settings) -> None:
        self.cache: Any = None
        self._reader: Any = None
        if settings.cache_bytes:
            from tamis.probes.kv_cache.cache import PassageCache

            self.cache = PassageCache(
                settings.cache_bytes, settings.cache_folder, settings.cache_storage
            )

    def wrap(self, reader: Any) -> Reader:
        """A reader that looks into the cache first; one that keeps no keys stays as it is."""
        if self.cache is None or not hasattr(reader, "read_keeping"):
            found: Reader = reader
            return found
        from tamis.probes.kv_cache.cache import CachedReader

        kept = self._reader = CachedReader(reader, self.cache)
        return kept

    def tokens_to_read(self, prompt: Prompt) -> int:
        """Tokens that reading a prompt costs: of a passage that is kept, the question's alone."""
        if self._reader is None or not self.cache.holds(self._reader.key(prompt)):
            return len(prompt)
        return len(prompt.ask.ids)
