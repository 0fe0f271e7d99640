"""RetrievalAttention: a graph of keys built from training queries (`tamis.retrieval`)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis.retrieval.kv.attention_graph import AttentionGraphIndex as Graph
from tamis.retrieval.kv.selector import SelectorInfo, geometric_steps
from tamis.retrieval.kv.types import KeyHits


class AttentionGraph:
    """A graph whose edges follow the queries."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph of keys that queries retrieve together", "RetrievalAttention, 2409.10516", "beam"
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._index = Graph(train)
        self._index.add(keys)

    @property
    def efforts(self) -> list[int]:
        """Beams up to a tenth of the keys."""
        return geometric_steps(100, max(400, len(self._index) / 10), 10)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys that a walk with this beam finds."""
        return self._index.search(queries, k, effort)


Selector = AttentionGraph
