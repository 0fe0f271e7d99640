"""What a kept passage is kept under: everything its keys and values depend on."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from tamis.probes.kv_cache.serialization import FORMAT
from tamis.probes.model.proxy import Proxy

UNVERSIONED = "unversioned"
"""The revision of a model that was wrapped without one."""

# what a config says of loading and generating, not of the keys of a layer
_NOT_THE_MODEL = {
    "num_hidden_layers",
    "_name_or_path",
    "transformers_version",
    "dtype",
    "architectures",
    "use_cache",
}
_nonces: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def fingerprint(proxy: Proxy, storage: str) -> Any:
    """A SHA-256 of all but the passage's tokens; copied and fed those, it is the key.

    How many layers the proxy was loaded with is left out: the layers below are the same, and an
    entry knows how many it has. The configuration is that of `Proxy.body`: once `Proxy.model` was
    asked for, transformers' defaults are in it, and what was kept before is not found.
    """
    revision = proxy.card.revision
    if revision == UNVERSIONED:  # then only this very model, in this process, is the same
        revision = _nonces.setdefault(proxy.body, uuid4().hex)
    config = proxy.body.config.to_dict()
    identity = {
        "format": FORMAT,
        "storage": storage,
        "transformers": version("transformers"),
        "revision": revision,
        "config": {name: value for name, value in config.items() if name not in _NOT_THE_MODEL},
        "dtype": str(proxy.dtype),
        "opening": proxy.layout.opening,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
