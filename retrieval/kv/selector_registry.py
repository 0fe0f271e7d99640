"""The folder is the registry: a file in `selectors/` is a selector, by the file's name."""

from __future__ import annotations

import difflib
import importlib
from pathlib import Path

from torch import Tensor

from tamis.probes.errors import BadInput, UnknownMethod
from tamis.retrieval.kv.selector import KeySelector, SelectorClass
from tamis.retrieval.kv.types import check_vectors

FOLDER = Path(__file__).parent / "selectors"


def selector_names() -> list[str]:
    """The names of all selectors."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def selector_class(name: str) -> SelectorClass:
    """The class of a selector.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    if name not in (known := selector_names()):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no selector {name!r}; {hint}there are: {', '.join(known)}")
    module = importlib.import_module(f"tamis.retrieval.kv.selectors.{name}")
    found: SelectorClass = module.Selector
    return found


def build_selector(name: str, keys: Tensor, train: Tensor) -> KeySelector:
    """Builds a selector over `[N, D]` keys, which may learn from `[T, D]` training queries.

    Raises:
        UnknownMethod: no such selector. BadInput: no keys, or keys or queries of a wrong shape or
            not finite. MissingExtra: it needs FAISS.
    """
    keys = check_vectors(keys, None, "keys")
    if not keys.numel():
        raise BadInput(f"keys have shape {list(keys.shape)}; give at least one, of a width")
    return selector_class(name)(keys, check_vectors(train, keys.shape[1], "training queries"))
