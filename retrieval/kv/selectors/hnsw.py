"""A graph of centred keys, compared by inner product: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval.kv import ann
from tamis.retrieval.kv.faiss_selector import Stock
from tamis.retrieval.kv.selector import Info


class Hnsw(Stock):
    """HNSW by inner product."""

    info: ClassVar[Info] = Info(
        "graph of centred keys, by inner product", "FAISS IndexHNSWFlat", "beam"
    )
    name: ClassVar[str] = "hnsw"
    form: ClassVar[ann.Form] = "ip"


Selector = Hnsw
