"""A graph of centred keys, compared by inner product: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo
from tamis_lab.methods.kv_search.faiss_selector import FaissSelector


class Hnsw(FaissSelector):
    """HNSW by inner product."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph of centred keys, by inner product", "FAISS IndexHNSWFlat", "beam"
    )
    name: ClassVar[str] = "hnsw"


Selector: SelectorClass = Hnsw
