"""Proxies in memory: every call of a process that reads with the same one shares its weights."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tamis.compressors.registry import load_proxy
from tamis.probes.hub.zoo import models_root

_proxies: WeakValueDictionary[tuple[str, Path, int], Any] = WeakValueDictionary()
_lock = threading.Lock()


def shared_proxy(proxy: Any, layers: int | None, root: Path | None = None) -> Any:
    """A proxy that is at least so deep: one that somebody holds, else a new one.

    No layer runs behind the last that is wanted, so a deeper one reads the same. It lives as long
    as somebody holds it.

    Args:
        proxy: a zoo name, a folder or a hub id; a loaded proxy is given back as it is.
        layers: None for all.

    Raises:
        ProxyMissing: and its kinds, as `zoo.load_proxy`.
    """
    if not isinstance(proxy, str | Path):
        return proxy
    name, home = str(proxy), models_root(root)
    with _lock:
        for (named, place, depth), found in list(_proxies.items()):
            if (named, place) == (name, home) and depth >= (layers or found.card.layers):
                return found
        loaded = load_proxy(proxy, layers, root)
        _proxies[name, home, loaded.depth] = loaded
        return loaded
