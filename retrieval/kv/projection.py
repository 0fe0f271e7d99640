"""From queries' nearest keys to edges between keys.

Queries and keys form a bipartite graph: each query is linked to the keys that it attends to most.
Projected on the keys, two keys are linked if a query retrieves both (RetrievalAttention, arXiv
2409.10516, §3.2; RoarGraph, arXiv 2408.08933, §4.2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.retrieval.kv.graph_host import Table

CHUNK = 2048
"""Keys whose candidates are compared at once: 2048 · 64² distances are 34 MB."""


def shared_neighbours(nearest: NDArray[np.int64], N: int, most: int) -> Table:
    """For each key the keys that most queries retrieve together with it, `[N, most]`, -1 filled.

    Args:
        nearest: `[T, k]`, the k nearest keys of each training query. N: how many keys there are.
    """
    from scipy.sparse import csr_matrix  # a second to import

    T, k = nearest.shape
    links = csr_matrix(
        (np.ones(T * k, np.float32), nearest.ravel(), np.arange(T + 1) * k), shape=(T, N)
    )
    shared: Any = (links.T @ links).tocoo()
    rows, columns, counts = shared.row, shared.col, shared.data
    other = rows != columns
    rows, columns, counts = rows[other], columns[other], counts[other]
    order = np.lexsort((columns, -counts, rows))
    rows, columns = rows[order], columns[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    table = np.full((N, most), -1, np.int32)
    best = place < most
    table[rows[best], place[best]] = columns[best]
    return table


def prune_candidates(keys: Tensor, table: Table, most: int) -> Table:
    """At most `most` neighbours a key, none in the shadow of one kept before it: `[N, most]`.

    A candidate is left out if a kept one is nearer to it than the key is (the rule of relative
    neighbourhood graphs, as HNSW, NSG and RoarGraph use it), so that edges lead in all directions.

    Args:
        keys: `[N, D]`, in the space where distance counts. table: candidates, best first.
    """
    parts = [
        _prune_block(keys, torch.arange(a, min(a + CHUNK, len(keys))), table[a : a + CHUNK], most)
        for a in range(0, len(keys), CHUNK)
    ]
    return np.concatenate(parts)


def _prune_block(keys: Tensor, own: Tensor, table: Table, most: int) -> Table:
    near = torch.from_numpy(table).long()
    there = near >= 0
    points = keys[near.clamp_min(0)]
    to_key = (points - keys[own, None]).norm(dim=-1)
    between = torch.cdist(points, points)
    kept, count = torch.zeros_like(there), torch.zeros(len(near), dtype=torch.long)
    for c in range(near.shape[1]):
        shadowed = (kept & (between[:, c] < to_key[:, c : c + 1])).any(1)
        kept[:, c] = there[:, c] & ~shadowed & (count < most)
        count += kept[:, c]
    return join_tables(near.masked_fill(~kept, -1).numpy(), most=most)


def join_tables(*tables: NDArray[Any], most: int) -> Table:
    """The neighbours of several tables side by side, first come first served, each once."""
    beside = np.concatenate(tables, 1)
    out = np.full((len(beside), most), -1, np.int32)
    for a in range(0, len(beside), CHUNK):
        part = beside[a : a + CHUNK].copy()
        again = np.tril(part[:, :, None] == part[:, None, :], -1).any(2)
        part[again] = -1
        order = np.argsort(part < 0, axis=1, kind="stable")[:, :most]
        best = np.take_along_axis(part, order, 1)
        out[a : a + CHUNK, : best.shape[1]] = best
    return out
