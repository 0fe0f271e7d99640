"""The policies: a file each in `evictions/`, whose last line is `Eviction = TheClass`."""

from __future__ import annotations

from tamis.probes.folder_registry import FolderRegistry
from tamis.probes.kv_cache.eviction import EvictionClass, EvictionInfo

EVICTIONS: FolderRegistry[EvictionClass, EvictionInfo] = FolderRegistry(
    "eviction", "probes/kv_cache/evictions", EvictionInfo
)
