"""Tables of neighbours: edges that training queries give, pruned, joined, and connected.

Queries and keys form a bipartite graph: each query is linked to the keys that it attends to most.
Projected on the keys, two keys are linked if a query retrieves both (RetrievalAttention, arXiv
2409.10516, §3.2; RoarGraph, arXiv 2408.08933, §4.2).

The distance between keys is the difference of the logits that queries give them: two keys are near
if the queries give them near logits. Over queries with second moment S = E[q qᵀ], the mean squared
difference of two keys' logits is (a - b)ᵀ S (a - b): the squared Euclidean distance once keys are
mapped by S^½. Queries mapped by S^-½ keep their inner products. Queries of a language model are far
from its keys and vary in few directions, so this differs much from the plain distance of keys, and
a search of graphs built with it reads fewer keys.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.devices import to_float64

Table = NDArray[np.int32]
"""Neighbours `[N, M]`, -1 where a key has fewer."""
FLOOR = 1e-4
"""Directions in which queries hardly vary get this share of the strongest direction's weight."""


def query_metric(queries: Tensor) -> Tensor:
    """S^½ of `[T, D]` fp32 queries: `[D, D]` fp32, symmetric and positive definite."""
    exact = to_float64(queries)
    moment = exact.T @ exact / len(queries)
    values, vectors = torch.linalg.eigh(moment)
    floor = (values.max() * FLOOR).clamp_min(torch.finfo(torch.float32).tiny)
    root: Tensor = (vectors * values.clamp_min(floor).sqrt()) @ vectors.T
    return root.to(queries)


BLOCK_KEYS = 2048
"""Keys whose candidates are compared at once: 2048 · 64² distances are 34 MB."""


def shared_neighbours(nearest: NDArray[np.int64], N: int, limit: int) -> Table:
    """For each key the keys that most queries retrieve together with it: `[N, limit]`, -1 filled.

    Args:
        nearest: `[T, k]`, the k nearest keys of each training query. N: how many keys there are.
    """
    from scipy.sparse import csr_matrix  # takes a second to import

    T, k = nearest.shape
    links = csr_matrix(
        (np.ones(T * k, np.float32), nearest.ravel(), np.arange(T + 1) * k), shape=(T, N)
    )
    shared: Any = (links.T @ links).tocoo()
    rows, columns, counts = shared.row, shared.col, shared.data
    differ = rows != columns
    rows, columns, counts = rows[differ], columns[differ], counts[differ]
    order = np.lexsort((columns, -counts, rows))
    return table_of_links(rows[order], columns[order], N, limit)


def table_of_links(rows: NDArray[Any], columns: NDArray[Any], N: int, limit: int) -> Table:
    """The first `limit` links of each row, `[N, limit]`, -1 filled; links are sorted by row."""
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    table = np.full((N, limit), -1, np.int32)
    first = rank < limit
    table[rows[first], rank[first]] = columns[first]
    return table


def prune_candidates(
    keys: Tensor, table: Table, limit: int, rows: NDArray[np.int64] | None = None
) -> Table:
    """Keeps at most `limit` of each key's candidates, in many directions: `[N, limit]`.

    A candidate is dropped if one kept before it is nearer to it than the key is (the rule of
    relative neighbourhood graphs, as HNSW, NSG and RoarGraph use it).

    Args:
        keys: `[N, D]`, in the space where distance counts. table: candidates, best first.
        rows: the keys that the rows of the table are of; by default all, in order.
    """
    own = torch.arange(len(keys)) if rows is None else torch.from_numpy(rows)
    parts = [np.zeros((0, limit), np.int32)]
    for start in range(0, len(table), BLOCK_KEYS):
        stop = min(start + BLOCK_KEYS, len(table))
        parts.append(_prune_block(keys, own[start:stop], table[start:stop], limit))
    return np.concatenate(parts)


def _prune_block(keys: Tensor, own: Tensor, table: Table, limit: int) -> Table:
    near = torch.from_numpy(table).long()
    exists = near >= 0
    points = keys[near.clamp_min(0)]
    to_key = (points - keys[own, None]).norm(dim=-1)
    between = torch.cdist(points, points)
    kept, count = torch.zeros_like(exists), torch.zeros(len(near), dtype=torch.long)
    for c in range(near.shape[1]):
        is_redundant = (kept & (between[:, c] < to_key[:, c : c + 1])).any(1)
        kept[:, c] = exists[:, c] & ~is_redundant & (count < limit)
        count += kept[:, c]
    return join_tables(near.masked_fill(~kept, -1).numpy(), limit=limit)


def join_tables(*tables: NDArray[Any], limit: int) -> Table:
    """Joins tables of neighbours row by row; of each row the first `limit` distinct ones stay."""
    joined = np.concatenate(tables, 1)
    out = np.full((len(joined), limit), -1, np.int32)
    for start in range(0, len(joined), BLOCK_KEYS):
        part = joined[start : start + BLOCK_KEYS].copy()
        is_repeated = np.tril(part[:, :, None] == part[:, None, :], -1).any(2)
        part[is_repeated] = -1
        order = np.argsort(part < 0, axis=1, kind="stable")[:, :limit]
        first = np.take_along_axis(part, order, 1)
        out[start : start + BLOCK_KEYS, : first.shape[1]] = first
    return out


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
