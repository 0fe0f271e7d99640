"""A graph of keys augmented to equal length, compared by distance: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.methods.kv_search import ann
from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo
from tamis_lab.methods.kv_search.faiss_selector import FaissSelector


class HnswAugmented(FaissSelector):
    """HNSW by distance, augmented."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph of keys augmented to one length, by distance",
        "FAISS IndexHNSWFlat; Bachrach et al. 2014",
        "beam",
    )
    name: ClassVar[str] = "hnsw"
    form: ClassVar[ann.KeyForm] = "augmented_l2"


Selector: SelectorClass = HnswAugmented
