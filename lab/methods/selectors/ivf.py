"""Clusters of centred keys, compared by inner product: FAISS's IVF."""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo
from tamis_lab.methods.kv_search.faiss_selector import FaissSelector


class Ivf(FaissSelector):
    """IVF by inner product."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "clusters of centred keys, by inner product", "FAISS IndexIVFFlat", "lists read"
    )
    name: ClassVar[str] = "ivf"


Selector: SelectorClass = Ivf
