"""RetrievalAttention's graph as published: RoarGraph, without a metric of the queries."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis_lab.methods.kv_search.attention_graph import AttentionGraphIndex, build_published_graph
from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo, geometric_steps
from tamis_lab.methods.selectors.attention_graph import AttentionGraph


class PublishedGraph(AttentionGraph):
    """A graph of keys that queries find together, in the keys' own distance."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph as published: what queries find, projected on their nearest key",
        "RetrievalAttention, 2409.10516; RoarGraph, 2408.08933",
        "beam",
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._index = AttentionGraphIndex(train, build=build_published_graph)
        self._index.add(keys)

    @property
    def efforts(self) -> list[int]:
        """Beams up to all keys: without our metric a tenth of them does not suffice."""
        return geometric_steps(100, max(400, len(self._index)), 10)


Selector: SelectorClass = PublishedGraph
