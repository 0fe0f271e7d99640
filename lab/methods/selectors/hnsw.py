"""A graph of centred keys, compared by inner product: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval.kv import ann
from tamis.retrieval.kv.faiss_selector import FaissSelector
from tamis.retrieval.kv.selector import SelectorClass, SelectorInfo


class Hnsw(FaissSelector):
    """HNSW by inner product."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "graph of centred keys, by inner product", "FAISS IndexHNSWFlat", "beam"
    )
    name: ClassVar[str] = "hnsw"
    form: ClassVar[ann.KeyForm] = "ip"


Selector: SelectorClass = Hnsw
