"""The policies: a file each in `evictions/`, whose last line is `Eviction = TheClass`."""

from __future__ import annotations

from tamis.probes.folder_registry import FolderRegistry
from tamis_lab.methods.kv_thinning.contract import EvictionClass, EvictionInfo

EVICTIONS: FolderRegistry[EvictionClass, EvictionInfo] = FolderRegistry(
    "eviction", "tamis_lab/methods/evictions", EvictionInfo
)
