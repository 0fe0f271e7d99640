"""Building selectors by their names."""

from __future__ import annotations

from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.kv_search.contract import KeySelector, SelectorClass
from tamis_lab.methods.kv_search.shared_selector import (
    PerHead,
    Setting,
    SharedSelector,
    SharedSelectorClass,
    check_heads,
)
from tamis_lab.methods.kv_search.types import check_vectors
from tamis_lab.methods.registry import SELECTORS as SELECTORS


def build_selector(name: str, keys: Tensor, train: Tensor) -> KeySelector:
    """Builds a selector over `[N, D]` keys, which may learn from `[T, D]` training queries.

    Raises:
        UnknownMethod: no such selector. BadInput: no keys, or keys or queries of a wrong shape or
            not finite, or it needs more than the keys of one head. MissingExtra: it needs FAISS.
    """
    keys = check_vectors(keys, None, "keys")
    if not keys.numel():
        raise BadInput(f"keys have shape {list(keys.shape)}; give at least one, of a width")
    train = check_vectors(train, keys.shape[1], "training queries")
    single: SelectorClass = SELECTORS.load(name)
    if single.info.needs:
        raise BadInput(f"{name} needs {single.info.needs}; build it with build_shared_selector")
    return single(keys, train)


def build_shared_selector(
    name: str, keys: Tensor, train: Tensor, setting: Setting
) -> SharedSelector:
    """Builds any selector over the keys of several heads: one for all, or one for each head.

    Args:
        keys: `[S, N, D]`. train: `[S, T, D]` training queries. setting: what else there is.

    Raises:
        UnknownMethod: no such selector. BadInput: a wrong shape, a value that is not finite, or
            passages that do not follow each other over all keys. MissingExtra: it needs FAISS.
    """
    keys, train = check_heads(keys, train, setting)
    found: SharedSelectorClass = SELECTORS.load(name)
    if found.info.needs:
        return found(keys, train, setting)
    return PerHead(keys, [build_selector(name, *pair) for pair in zip(keys, train, strict=True)])
