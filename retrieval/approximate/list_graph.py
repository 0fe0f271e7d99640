"""RetrievalAttention's graph over lists of keys, with edges that follow the queries.

Source: arXiv 2409.10516, §3.2; RoarGraph, arXiv 2408.08933. Departures, beside those of the graph
over keys in `retrieval/kv/attention_graph.py`:

- A node is a list of some 24 near keys at its centroid (as the postings of SPANN, arXiv
  2111.08566), so that ten million keys make a graph of 400,000 nodes.
- Near lists are sought in a list's own cell and in the cells next to it, by matrix products, in
  place of HNSW: no FAISS is needed, and the same keys always make the same graph.
- A search begins in the cells that are best for the query, not at one entry.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.retrieval.approximate.clusters import KeyClusters
from tamis.retrieval.kv.faiss_graph import Table
from tamis.retrieval.kv.projection import (
    join_tables,
    prune_candidates,
    shared_neighbours,
    table_of_links,
)
from tamis.retrieval.kv.query_metric import query_metric
from tamis.retrieval.kv.reachability import connect_graph

DEGREE = 32
QUERY_LINKS = 16
NEAREST = 32
"""Lists that a training query is linked to, and near lists that are considered for a list."""
NEAR_CELLS = 6
MAX_QUERIES = 4096
_LENGTH = 1 << 11
"""Mapped centroids are rounded to whole numbers of this length: distances are exact in fp32."""


def build_list_graph(
    clusters: KeyClusters, queries: Tensor | None, query_links: int = QUERY_LINKS
) -> tuple[Table, NDArray[np.int32]]:
    """The graph of one head's lists: neighbours `[L, M]`, and the list in the middle of each cell.

    Args:
        queries: `[T, d]` training queries; without any, a plain graph of near lists.
        query_links: at most this many of a list's neighbours come from them.
    """
    centroids = torch.from_numpy(clusters.centroids.astype(np.float32))
    cells = torch.from_numpy(clusters.cells.astype(np.float32))
    root = torch.eye(centroids.shape[1]) if queries is None else query_metric(queries)
    mapped, mapped_cells = _round_together(centroids @ root, cells @ root)
    near = _near_lists(mapped, mapped_cells, clusters.cell_starts)
    base = prune_candidates(mapped, near, DEGREE // 2)
    tables = [base, _reverse(base, DEGREE), near]
    if queries is not None and query_links:
        drawn = queries[:: -(-len(queries) // MAX_QUERIES)]
        tables.insert(0, _query_links(centroids, mapped, drawn, query_links))
    entries = _entries(mapped, mapped_cells, clusters.cell_starts)
    table = join_tables(*tables, limit=DEGREE - 1)
    return connect_graph(table, int(entries[0])), entries


def _round_together(*parts: Tensor) -> list[Tensor]:
    longest = max(float(part.norm(dim=1).max()) for part in parts)
    return [(part * (_LENGTH / max(longest, 1e-9))).round() for part in parts]


def _near_lists(mapped: Tensor, cells: Tensor, cell_starts: NDArray[np.int64]) -> Table:
    """The nearest lists of each list in its own cell and the cells next to it, nearest first."""
    around = (cells.square().sum(1) - 2 * cells @ cells.T).topk(
        min(NEAR_CELLS, len(cells)), largest=False
    )
    table = np.full((len(mapped), NEAREST), -1, np.int32)
    for cell, near_cells in enumerate(around.indices.tolist()):
        ranges = [np.arange(*cell_starts[c : c + 2]) for c in dict.fromkeys([cell, *near_cells])]
        others = np.concatenate(ranges)
        own = len(ranges[0])  # they come first
        points = mapped[torch.from_numpy(others)]
        distances = points.square().sum(1) - 2 * points[:own] @ points.T
        distances.fill_diagonal_(torch.inf)
        if k := min(NEAREST, len(others) - 1):
            table[ranges[0], :k] = others[distances.topk(k, largest=False).indices.numpy()]
    return table


def _reverse(table: Table, limit: int) -> Table:
    """The lists that link to each list, `[L, limit]`: first those that rank it high."""
    rows, ranks = np.nonzero(table >= 0)
    targets = table[rows, ranks]
    order = np.lexsort((rows, ranks, targets))
    return table_of_links(targets[order], rows[order], len(table), limit)


def _query_links(centroids: Tensor, mapped: Tensor, queries: Tensor, limit: int) -> Table:
    """Lists that training queries find together with each list; most lists have none."""
    k = min(NEAREST, len(centroids))
    found = [(part @ centroids.T).topk(k).indices for part in torch.split(queries, 32)]
    near = shared_neighbours(torch.cat(found).numpy(), len(centroids), 2 * NEAREST)
    rows = np.flatnonzero((near >= 0).any(1))
    table = np.full((len(centroids), limit), -1, np.int32)
    table[rows] = prune_candidates(mapped, near[rows], limit, rows)
    return table


def _entries(mapped: Tensor, cells: Tensor, cell_starts: NDArray[Any]) -> NDArray[np.int32]:
    found = [
        int(first) + int((mapped[first:stop] - cells[c]).square().sum(1).argmin())
        for c, (first, stop) in enumerate(pairwise(cell_starts))
    ]
    return np.array(found, np.int32)
