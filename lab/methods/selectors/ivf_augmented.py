"""Clusters of keys augmented to equal length, compared by distance: FAISS's IVF."""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.methods.kv_search import ann
from tamis_lab.methods.kv_search.contract import SelectorClass, SelectorInfo
from tamis_lab.methods.kv_search.faiss_selector import FaissSelector


class IvfAugmented(FaissSelector):
    """IVF by distance, augmented."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "clusters of keys augmented to one length, by distance",
        "FAISS IndexIVFFlat; Bachrach et al. 2014",
        "lists read",
    )
    name: ClassVar[str] = "ivf"
    form: ClassVar[ann.KeyForm] = "augmented_l2"


Selector: SelectorClass = IvfAugmented
