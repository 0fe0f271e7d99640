"""The folder is the registry: a file in `evictions/` is a policy, by the file's name."""

from __future__ import annotations

import importlib
from pathlib import Path

from tamis.probes.folder_registry import check_entry, entry_names
from tamis.probes.kv_cache.eviction import EvictionClass

FOLDER = Path(__file__).parent / "evictions"


def eviction_names() -> list[str]:
    """The names of all policies."""
    return entry_names(FOLDER)


def eviction_class(name: str) -> EvictionClass:
    """The class of a policy.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    check_entry("eviction", name, eviction_names())
    module = importlib.import_module(f"tamis.probes.kv_cache.evictions.{name}")
    found: EvictionClass = module.Eviction
    return found
