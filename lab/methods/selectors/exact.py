"""Exact search, which reads every key: the other selectors are compared with it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.kv_search.types import KeyHits, check_effort


class Exact:
    """Reads every key."""

    info: ClassVar[SelectorInfo] = SelectorInfo("every key read, in torch", "the oracle")
    efforts = (1,)

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._index = ExactIndex(keys)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys; the effort changes nothing."""
        check_effort(effort)
        return self._index.search(queries, k)


Selector: SelectorClass = Exact
