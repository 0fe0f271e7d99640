"""A proxy that keeps the passages it has read in memory, for data sets that repeat them."""

from __future__ import annotations

from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy

CACHE_BYTES = 2 << 30
"""Of passages kept in memory: data sets ask many questions about the same ones."""


def cached_reader(proxy: Proxy, sharers: int = 1) -> CachedReader:
    """The proxy with passages it has read kept in memory; a second question costs a fraction.

    Args:
        sharers: how many such readers share `CACHE_BYTES`.
    """
    return CachedReader(proxy, PassageCache(max_bytes=CACHE_BYTES // sharers))
