"""The base of selectors that are an index of FAISS."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis_lab.methods.kv_search import ann
from tamis_lab.methods.kv_search.contract import geometric_steps
from tamis_lab.methods.kv_search.types import KeyHits


class FaissSelector:
    """An index of FAISS in one of its forms; a subclass adds `info`.

    Attributes:
        name, form: of `ann.build`.
    """

    name: ClassVar[str]
    form: ClassVar[ann.KeyForm] = "ip"

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._index = ann.build(self.name, form=self.form)
        self._index.add(keys)

    @property
    def efforts(self) -> list[int]:
        """Probes of an ivf up to every list, or beams of an hnsw up to a tenth of the keys."""
        lists = self._index.list_count
        if lists is not None:
            return geometric_steps(max(1, lists / 256), lists, 16)
        return geometric_steps(100, max(400, len(self._index) / 10), 10)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys that this effort finds."""
        return self._index.search(queries, k, effort)
