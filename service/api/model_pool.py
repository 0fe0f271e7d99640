"""What the calls of this process share: loaded proxies, and what was built over them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from tamis.compressors.method import Method
from tamis.compressors.registry import load_proxy
from tamis.probes.hub.zoo import models_root
from tamis.probes.lru import LruCache

T = TypeVar("T")
MAX_BUILT = 16
"""Choices that are kept in one place; those not asked for the longest go first."""
_PLAIN = (str, Path, int, float, bool, type(None))
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

    def get_or_build(
        self,
        build: Callable[[], T],
        method: str | Method | type[Method],
        proxy: Any,
        root: Path | None,
        cache: Any,
        options: Mapping[str, Any],
    ) -> T:
        """What was built for these choices, or what `build` makes of them.

        What is built over a method's instance is not kept: whoever made the method keeps it.

        Args:
            proxy: a loaded proxy, or the name or folder of one. cache: of passages, or None.
        """
        if isinstance(method, Method):
            return build()
        chosen = tuple((name, _identity_of(value)) for name, value in sorted(options.items()))
        key = (*map(_identity_of, (method, proxy, root, cache)), chosen)
        with self._lock:
            return self._place_of(proxy, cache).get(key, build, lambda _: 1)

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


def _identity_of(value: Any) -> Any:
    """A cache key: plain values by value, objects by identity."""
    return (type(value), value) if isinstance(value, _PLAIN) else id(value)
