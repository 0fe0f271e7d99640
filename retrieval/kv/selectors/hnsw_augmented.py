"""A graph of keys made equally long, compared by distance: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval.kv import ann
from tamis.retrieval.kv.faiss_selector import Stock
from tamis.retrieval.kv.selector import Info


class HnswAugmented(Stock):
    """HNSW by distance, augmented."""

    info: ClassVar[Info] = Info(
        "graph of keys augmented to one length, by distance",
        "FAISS IndexHNSWFlat; Bachrach et al. 2014",
        "beam",
    )
    name: ClassVar[str] = "hnsw"
    form: ClassVar[ann.Form] = "augmented_l2"


Selector = HnswAugmented
