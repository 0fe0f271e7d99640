"""The cache key of a passage: a hash of everything that its keys and values depend on."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from tamis.probes.kv_cache.codec import KVCodec
from tamis.probes.kv_cache.serialization import FORMAT
from tamis.probes.kv_cache.storage import Storage, storage_identity
from tamis.probes.model.proxy import Proxy

UNVERSIONED = "unversioned"
"""The revision of a model that was wrapped without giving one."""

# configuration entries about loading and generating, which do not affect the keys of a layer
_NOT_THE_MODEL = {
    "num_hidden_layers",
    "_name_or_path",
    "transformers_version",
    "dtype",
    "architectures",
    "use_cache",
}
_nonces: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def rest_key(key: str, first: int) -> str:
    """The key of a passage's layers from `first` on, where those before are an entry of their own.

    Args:
        key: of the passage.
    """
    return hashlib.sha256(f"{key} from layer {first}".encode()).hexdigest()


def fingerprint(proxy: Proxy, storage: Storage, codec: KVCodec | None = None) -> Any:
    """A SHA-256 object over everything but the passage's tokens; with those added, it is the key.

    The number of layers that the proxy was loaded with is left out: deeper layers do not affect the
    others, and an entry knows how many it has. The configuration is that of `Proxy.body`: once
    `Proxy.model` was accessed, it includes transformers' defaults, and earlier entries are missed.
    """
    revision = proxy.card.revision
    if revision == UNVERSIONED:  # then only this model object, in this process, has the same key
        revision = _nonces.setdefault(proxy.body, uuid4().hex)
    config = proxy.body.config.to_dict()
    identity = {
        "format": FORMAT,
        "storage": storage_identity(storage, codec),
        "transformers": version("transformers"),
        "revision": revision,
        "config": {name: value for name, value in config.items() if name not in _NOT_THE_MODEL},
        "arithmetic": proxy.arithmetic,
        "opening": proxy.layout.opening,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
