"""Clusters of centred keys, compared by inner product: FAISS's IVF."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval import ann
from tamis.retrieval.selectors._selector import Info
from tamis.retrieval.selectors._stock import Stock


class Ivf(Stock):
    """IVF by inner product."""

    info: ClassVar[Info] = Info(
        "clusters of centred keys, by inner product", "FAISS IndexIVFFlat", "lists read"
    )
    name: ClassVar[str] = "ivf"
    form: ClassVar[ann.Form] = "ip"


Selector = Ivf
