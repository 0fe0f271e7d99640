"""The folder is the registry: a file in `selectors/` is a selector, by the file's name."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from torch import Tensor

from tamis.probes.errors import BadInput, UnknownMethod
from tamis.retrieval.kv.selector import KeySelector, SelectorClass
from tamis.retrieval.kv.shared_selector import (
    PerHead,
    Setting,
    SharedSelector,
    SharedSelectorClass,
    check_heads,
)
from tamis.retrieval.kv.types import check_vectors

FOLDER = Path(__file__).parent / "selectors"


def selector_names() -> list[str]:
    """The names of all selectors."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def selector_class(name: str) -> SelectorClass | SharedSelectorClass:
    """The class of a selector; its `info.needs` says which of the two.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    found: SelectorClass | SharedSelectorClass = _load_class(name)
    return found


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
    single: SelectorClass = _load_class(name)
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
    found: SharedSelectorClass = _load_class(name)
    if found.info.needs:
        return found(keys, train, setting)
    return PerHead(keys, [build_selector(name, *pair) for pair in zip(keys, train, strict=True)])


def _load_class(name: str) -> Any:
    if name not in (known := selector_names()):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no selector {name!r}; {hint}there are: {', '.join(known)}")
    return importlib.import_module(f"tamis.retrieval.kv.selectors.{name}").Selector
