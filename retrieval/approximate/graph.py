"""Search of one head's keys by the graph of their lists: files, and the keys that it finds.

graph0_centroids.npy, graph0_cells.npy    [L, d], [Z, d] int8
graph0_table.npy, graph0_entries.npy      [L, M], [Z] int32
graph0_starts.npy, graph0_members.npy     [L + 1], [N]: the keys of each list
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tamis.retrieval.approximate.clusters import cluster_keys
from tamis.retrieval.approximate.graph_walk import ListGraph, best_lists, top_columns
from tamis.retrieval.approximate.list_graph import build_list_graph
from tamis.retrieval.approximate.types import Arrays, Floats, FoundKeys, Progress

LISTS_READ = 48
"""Lists whose keys are read for a query vector."""
BEAM = 64


class GraphSearch:
    """Finds keys of one head: walks to the best lists and reads their keys.

    Args:
        keys: `[N, d]` int8.
        arrays: the graph's arrays by name, as `build` makes them.
    """

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        self._keys = keys
        self._graph = ListGraph(
            arrays["centroids"], arrays["table"], arrays["cells"], arrays["entries"]
        )
        self._starts, self._members = arrays["starts"], arrays["members"]

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """The arrays of a graph over `[N, d]` keys, which follows `[T, d]` training queries."""
        clusters = cluster_keys(keys, report)
        tensor = None if queries is None else torch.from_numpy(queries)
        table, entries = build_list_graph(clusters, tensor)
        return {
            "centroids": clusters.centroids,
            "cells": clusters.cells,
            "table": table,
            "entries": entries,
            "starts": clusters.starts,
            "members": clusters.members,
        }

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """The keys of the best lists for each of `[R, d]` queries.

        Args:
            effort: a factor of how many lists are walked through and read.
        """
        beam = max(1, round(max(BEAM, LISTS_READ) * effort))
        lists, scores, read = best_lists(self._graph, queries, beam)
        best = top_columns(scores, max(1, round(LISTS_READ * effort)))
        chosen = np.take_along_axis(lists, best, 1)
        own = [row[row >= 0] for row in chosen]
        found = [_ranges(self._starts[of], self._starts[of + 1]) for of in own]
        ids = [self._members[places].astype(np.int64) for places in found]
        products = [self._keys[of].astype(np.float32) @ queries[r] for r, of in enumerate(ids)]
        rows = np.repeat(np.arange(len(ids)), [len(of) for of in ids])
        return FoundKeys(rows, np.concatenate(ids), np.concatenate(products), read + len(rows))


def _ranges(starts: NDArray[Any], stops: NDArray[Any]) -> NDArray[np.int64]:
    """All numbers of the ranges `[start, stop)`, one after the other."""
    sizes = stops - starts
    before = np.cumsum(sizes) - sizes
    numbers: NDArray[np.int64] = np.arange(int(sizes.sum())) + np.repeat(starts - before, sizes)
    return numbers
