"""Clusters of keys made equally long, compared by distance: FAISS's IVF."""

from __future__ import annotations

from typing import ClassVar

from tamis.retrieval.kv import ann
from tamis.retrieval.kv.faiss_selector import Stock
from tamis.retrieval.kv.selector import Info


class IvfAugmented(Stock):
    """IVF by distance, augmented."""

    info: ClassVar[Info] = Info(
        "clusters of keys augmented to one length, by distance",
        "FAISS IndexIVFFlat; Bachrach et al. 2014",
        "lists read",
    )
    name: ClassVar[str] = "ivf"
    form: ClassVar[ann.Form] = "augmented_l2"


Selector = IvfAugmented
