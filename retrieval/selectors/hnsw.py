"""A graph of centred keys, compared by inner product: FAISS's HNSW."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval import ann
from tamis.retrieval.selectors._selector import Info
from tamis.retrieval.selectors._stock import Stock


class Hnsw(Stock):
    """HNSW by inner product."""

    info: ClassVar[Info] = Info(
        "graph of centred keys, by inner product", "FAISS IndexHNSWFlat", "beam"
    )
    name: ClassVar[str] = "hnsw"
    form: ClassVar[ann.Form] = "ip"


Selector = Hnsw
