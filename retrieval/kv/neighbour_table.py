"""The table of a graph's neighbours: searched by FAISS, and connected so that every key is found.

FAISS searches a graph that tamis built once its neighbour table is filled: `IndexHNSWFlat` is a
flat store of keys, a table of neighbours a level, and an entry point. With one level and a given
table its search is a beam search over any graph; FAISS builds nothing.
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


Flags = NDArray[np.bool_]


def reachable_keys(table: Table, known: Flags, start: NDArray[np.int64]) -> Flags:
    """Which keys can be reached from `start`, together with those known to be reachable: `[N]`."""
    reachable = known.copy()
    reachable[start] = True
    while len(start):
        ahead = np.unique(table[start]).astype(np.int64)
        start = ahead[(ahead >= 0) & ~reachable[ahead]]
        reachable[start] = True
    return reachable


def connect_graph(table: Table, entry: int) -> Table:
    """Adds a column to the table, so that every key is reachable from `entry`.

    RoarGraph (§4.3) connects by searching for every key once more. Here only keys that cannot be
    reached get a link, from one of their own neighbours that can be reached, else from any key; a
    key has at most one such link, so that no key's list grows long.
    """
    N = len(table)
    links = np.full(N, -1, np.int32)
    reachable = reachable_keys(table, np.zeros(N, np.bool_), np.array([entry]))
    while not reachable.all():
        unreachable = np.flatnonzero(~reachable)
        sources, targets = _pair_links(table, unreachable, reachable & (links < 0))
        links[sources] = targets
        reachable = reachable_keys(_add_links(table, links), reachable, targets)
    return _add_links(table, links)


def _pair_links(
    table: Table, unreachable: NDArray[np.int64], free: Flags
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Reachable keys that still have a free link, and the unreachable key that each is to link."""
    near = table[unreachable]
    is_possible = (near >= 0) & free[near]
    rows = np.flatnonzero(is_possible.any(1))
    if len(rows):
        first = near[rows, is_possible[rows].argmax(1)]
        sources, at = np.unique(first, return_index=True)
        return sources.astype(np.int64), unreachable[rows[at]]
    return np.flatnonzero(free)[:1], unreachable[:1]


def _add_links(table: Table, links: NDArray[np.int32]) -> Table:
    return compact_rows(np.concatenate((table, links[:, None]), 1))
