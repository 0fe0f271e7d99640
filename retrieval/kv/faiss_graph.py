"""Lets FAISS search a graph that tamis built, by filling FAISS's neighbour table.

`IndexHNSWFlat` is a flat store of keys, a table of neighbours a level, and an entry point. With one
level and a given table its search is a beam search over any graph; FAISS builds nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.kv.faiss_library import faiss

Table = NDArray[np.int32]
"""Neighbours `[N, M]`, -1 where a key has fewer; FAISS stops at the first -1."""


def make_faiss_graph(keys: NDArray[np.float32], table: Table, entry: int) -> Any:
    """A FAISS index that searches the graph by inner product, starting at key `entry`.

    Args:
        keys: `[N, D]`. table: ids of other keys, M even.
    """
    module = faiss()
    N, M = table.shape
    index = module.IndexHNSWFlat(keys.shape[1], M // 2, module.METRIC_INNER_PRODUCT)
    index.storage.add(keys)
    index.ntotal = N
    graph = index.hnsw
    module.copy_array_to_vector(np.ones(N, np.int32), graph.levels)
    graph.prepare_level_tab(N, True)  # room for the table: FAISS gives level 0 M neighbours
    module.copy_array_to_vector(compact_rows(table).ravel(), graph.neighbors)
    graph.entry_point, graph.max_level = int(entry), 0
    return index


def base_neighbours(index: Any) -> Table:
    """The neighbours on level 0 of a graph that FAISS built: `[N, M]`."""
    module, graph = faiss(), index.hnsw
    start = module.vector_to_array(graph.offsets)[:-1].astype(np.int64)
    width = graph.nb_neighbors(0)
    flat = module.vector_to_array(graph.neighbors)
    table: Table = flat[start[:, None] + np.arange(width)]
    return table


def compact_rows(table: NDArray[Any]) -> Table:
    """The same neighbours in the same order, with every -1 at the end."""
    order = np.argsort(table < 0, axis=1, kind="stable")
    return np.ascontiguousarray(np.take_along_axis(table, order, 1), dtype=np.int32)
