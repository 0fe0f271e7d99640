"""Finds a selector by its file name."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path
from typing import Any

from torch import Tensor

from tamis.probes.errors import UnknownMethod
from tamis.retrieval.kv.selector import KeySelector
from tamis.retrieval.kv.types import check_vectors


def selector_names() -> list[str]:
    """All selectors."""
    files = (Path(__file__).parent / "selectors").glob("*.py")
    return sorted(path.stem for path in files if not path.stem.startswith("_"))


def selector_class(name: str) -> Any:
    """The class of a selector.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    if name not in (there := selector_names()):
        near = difflib.get_close_matches(name, there, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no selector {name!r}; {hint}there are: {', '.join(there)}")
    return importlib.import_module(f"tamis.retrieval.kv.selectors.{name}").Selector


def build_selector(name: str, keys: Tensor, train: Tensor) -> KeySelector:
    """A selector over `[N, D]` keys, which may learn from `[T, D]` training queries.

    Raises:
        UnknownMethod: no such selector. BadInput: keys or queries of a wrong shape, or not finite.
        MissingExtra: it needs FAISS.
    """
    keys = check_vectors(keys, None, "keys")
    made: KeySelector = selector_class(name)(keys, check_vectors(train, keys.shape[1], "training queries"))
    return made
