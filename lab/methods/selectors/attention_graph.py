"""RetrievalAttention: a graph of keys built from training queries; see `kv/attention_graph.py`."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis_lab.methods.kv_search.attention_graph import AttentionGraphIndex
from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo, geometric_steps
from tamis_lab.methods.kv_search.types import KeyHits


class AttentionGraph:
    """A graph whose edges follow the queries."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph of keys that queries retrieve together", "RetrievalAttention, 2409.10516", "beam"
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._index = AttentionGraphIndex(train)
        self._index.add(keys)

    @property
    def efforts(self) -> list[int]:
        """Beams up to a tenth of the keys."""
        return geometric_steps(100, max(400, len(self._index) / 10), 10)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys that a beam search of this width finds."""
        return self._index.search(queries, k, effort)


Selector: SelectorClass = AttentionGraph
