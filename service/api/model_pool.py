"""What the calls of this process share: loaded proxies, and what was built over them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from tamis.compressors.registry import load_proxy
from tamis.probes.hub.zoo import models_root
from tamis.probes.lru import LruCache

T = TypeVar("T")
MAX_BUILT = 16
"""Choices that are kept in one place; those not asked for the longest go first."""
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


class Built(Generic[T]):
    """What was built for choices of callers. Threads may share it.

    What was built for a loaded proxy or a passage cache is kept with that object, and refers to it;
    so both are freed together once nobody else holds the object. What was built for the name of a
    model is kept here.

    Args:
        name: of the attribute of those objects.
    """

    def __init__(self, name: str) -> None:
        self._attribute = f"_built_{name}"
        self._named = LruCache[T](MAX_BUILT)
        self._lock = threading.Lock()

    def get(self, proxy: Any, cache: Any, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """What was built for a key, or what `make` builds.

        Args:
            proxy: a loaded proxy, or the name or folder of one. cache: of passages, or None.
            key: of all choices, those two included.
        """
        with self._lock:
            return self._place_of(proxy, cache).get(key, make, lambda _: 1)

    def clear(self) -> None:
        """Forgets what was built for names of models."""
        with self._lock:
            self._named = LruCache(MAX_BUILT)

    def _place_of(self, proxy: Any, cache: Any) -> LruCache[T]:
        owner = cache if isinstance(proxy, str | Path) else proxy
        attributes = getattr(owner, "__dict__", None)
        if attributes is None:  # no object, or one that takes no attributes
            return self._named
        place: LruCache[T] = attributes.setdefault(self._attribute, LruCache(MAX_BUILT))
        return place
