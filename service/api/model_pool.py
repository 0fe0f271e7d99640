"""Loaded proxies of this process: all calls that use the same proxy share its weights."""

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
    """A proxy with at least this many layers: one in use, else a newly loaded one.

    No layer above the last one needed is run, so a deeper proxy gives the same signals. The pool
    holds weak references: a proxy lives as long as something else refers to it.

    Args:
        proxy: a zoo name, a folder or a hub id; a loaded proxy is returned as it is.
        layers: None for all.

    Raises:
        ProxyMissing: and its subclasses, as `zoo.load_proxy`.
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
