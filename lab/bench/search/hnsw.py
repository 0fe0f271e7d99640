"""FAISS's HNSW over the keys of one head: what the graph of lists is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.approximate.segment_search import faiss, search_bytes
from tamis.retrieval.approximate.types import Arrays, Floats, FoundKeys, Progress

DEGREE, CONSTRUCTION, BEAM = 32, 100, 512
_BLOCK_KEYS = 1 << 14


class HnswSearch:
    """Finds keys of one head by FAISS's HNSW, by inner product, on keys as 8-bit numbers."""

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        self._keys, self._index = keys, faiss().deserialize_index(arrays["index"])

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """The index; queries change nothing."""
        module = faiss()
        kind, product = module.ScalarQuantizer.QT_8bit_direct_signed, module.METRIC_INNER_PRODUCT
        index = module.IndexHNSWSQ(keys.shape[1], kind, DEGREE // 2, product)
        index.hnsw.efConstruction = CONSTRUCTION
        index.train(keys[:2].astype(np.float32))
        for start in range(0, len(keys), _BLOCK_KEYS):
            part = keys[start : start + _BLOCK_KEYS].astype(np.float32)
            index.add(part)
            report(len(part))
        return {"index": module.serialize_index(index)}

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """The best keys that a beam search finds."""
        beam = max(1, round(BEAM * effort))
        params = faiss().SearchParametersHNSW(efSearch=beam)
        k = min(beam, int(self._index.ntotal))
        return search_bytes(self._index, self._keys, queries, k, params)
