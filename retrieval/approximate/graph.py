"""Search of one head's keys by the graph of their lists: files, and the keys that it finds.

graph0_centroids.npy, graph0_cells.npy    [L, d], [Z, d] int8
graph0_table.npy, graph0_entries.npy      [L, M], [Z] int32
graph0_starts.npy, graph0_members.npy     [L + 1], [N]: the keys of each list

The graph is RetrievalAttention's, over lists of keys, with edges that follow the queries.

Source: arXiv 2409.10516, §3.2; RoarGraph, arXiv 2408.08933. Departures, each measured, see
lab/log/retrieval-and-selectors.md#2026-11-24-finding-the-keys-that-a-question-attends-to:

- The papers index a prompt's keys with that prompt's queries, and give only a query's nearest key
  the others as candidates. Here queries of other questions build the graph, and all that a query
  retrieves are candidates of each other, in order of how many queries they share.
- A node is a list of some 24 near keys at its centroid (as the postings of SPANN, arXiv
  2111.08566), so that ten million keys make a graph of 400,000 nodes.
- Near lists are sought in a list's own cell and in the cells next to it, by matrix products, in
  place of HNSW: no FAISS is needed, and the same keys always make the same graph.
- A search begins in the cells that are best for the query, not at one entry.

A beam search runs for all query vectors of a question side by side. In each step every query vector
looks at the neighbours of its `EXPANDED` best lists that it has not expanded yet; the `beam` best
lists stay. It ends when all of those are expanded.

Keys are clustered into short lists by k-means on two levels: cells, and in each cell its lists.

keys [N, d] int8 ─► cells [Z] ─► lists [L] of some `LIST_KEYS` keys each, numbered cell by cell

Products of keys and centroids are whole numbers below 2^24, which fp32 holds exactly: the same keys
make the same lists, whatever the number of threads and the order in which they add.

Edges between keys are made of the nearest keys of training queries.
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

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.devices import to_float64
from tamis.retrieval.approximate.types import Arrays, Floats, FoundKeys, Progress

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


LIST_KEYS = 24
"""Keys in a list, on average."""
SAMPLE_KEYS = 1 << 16
"""At most so many keys place the centres of the cells."""
ROUNDS = 2
_FINENESS = 64
"""While clusters are sought, centres are whole 64ths of what keys are."""
_BLOCK_KEYS = 4096


@dataclass(frozen=True, slots=True)
class KeyClusters:
    """The keys of one head in lists.

    Attributes:
        centroids: `[L, d]` int8, the rounded mean of each list's keys.
        starts: `[L + 1]`, where the keys of each list begin in `members`.
        members: `[N]` int32, numbers of keys, list by list, ascending in each.
        cells: `[Z, d]` int8, the rounded mean of each cell's keys.
        cell_starts: `[Z + 1]`, the first list of each cell.
    """

    centroids: NDArray[np.int8]
    starts: NDArray[np.int64]
    members: NDArray[np.int32]
    cells: NDArray[np.int8]
    cell_starts: NDArray[np.int64]


def cluster_keys(keys: NDArray[Any], report: Progress = lambda done: None) -> KeyClusters:
    """Clusters `[N, d]` int8 keys, at least one; they may be memory-mapped.

    Beside the keys it takes some 20 bytes a key, and the centroids.

    Args:
        report: called with how many more keys were put into a list.
    """
    cells = max(1, round(1.7 * (len(keys) / LIST_KEYS) ** 0.5))
    centres = _k_means(_floats(keys[:: -(-len(keys) // SAMPLE_KEYS)]), cells)
    owners = np.concatenate([_nearest(part, centres).int().numpy() for part in _blocks(keys)])
    order = np.argsort(owners, kind="stable").astype(np.int32)
    bounds = np.searchsorted(owners[order], np.arange(cells + 1))
    lists = []
    for first, stop in pairwise(bounds):
        if stop > first:
            lists.append(_split_cell(keys, order[first:stop]))
            report(int(stop - first))
    weights = [torch.from_numpy(sizes).double()[:, None] for _, sizes, _ in lists]
    cell_means = [
        (means.double() * n).sum(0) / n.sum()
        for (means, _, _), n in zip(lists, weights, strict=True)
    ]
    return KeyClusters(
        torch.cat([means for means, _, _ in lists]).round().to(torch.int8).numpy(),
        np.cumsum([0, *np.concatenate([sizes for _, sizes, _ in lists])], dtype=np.int64),
        np.concatenate([members for _, _, members in lists]),
        torch.stack(cell_means).round().to(torch.int8).numpy(),
        np.cumsum([0, *(len(means) for means, _, _ in lists)], dtype=np.int64),
    )


def _split_cell(
    keys: NDArray[Any], members: NDArray[np.int32]
) -> tuple[Tensor, NDArray[np.int64], NDArray[np.int32]]:
    """Means, sizes and members of the lists of one cell."""
    own = _floats(keys[members])
    centres = _k_means(own, max(1, round(len(own) / LIST_KEYS)))
    owners = _nearest(own, centres)
    sizes = torch.bincount(owners, minlength=len(centres))
    means = _means(own, owners, sizes)[sizes > 0] / _FINENESS
    return means, sizes[sizes > 0].numpy(), members[owners.argsort(stable=True).numpy()]


def _k_means(own: Tensor, count: int) -> Tensor:
    """The centres of `count` clusters of `[N, d]` whole numbers: `[count, d]`, in 64ths."""
    centres = own[torch.linspace(0, len(own) - 1, count).long()] * _FINENESS
    for _ in range(ROUNDS if count > 1 else 1):
        owners = _nearest(own, centres)
        sizes = torch.bincount(owners, minlength=count)
        centres = torch.where((sizes > 0)[:, None], _means(own, owners, sizes), centres)
    return centres


def _means(own: Tensor, owners: Tensor, sizes: Tensor) -> Tensor:
    """The mean of each cluster in whole 64ths; sums in fp64, which are exact."""
    sums = torch.zeros(len(sizes), own.shape[1], dtype=torch.float64)
    sums.index_add_(0, owners, own.double())
    return (sums * _FINENESS / sizes.clamp_min(1)[:, None]).round().float()


def _nearest(own: Tensor, centres: Tensor) -> Tensor:
    """The number of the nearest centre of each row."""
    half = centres.square().sum(1) / (2 * _FINENESS)
    parts = torch.split(own, _BLOCK_KEYS)
    return torch.cat([(part @ centres.T - half).argmax(1) for part in parts])


def _blocks(keys: NDArray[Any]) -> Iterator[Tensor]:
    return (_floats(keys[i : i + _BLOCK_KEYS]) for i in range(0, len(keys), _BLOCK_KEYS))


def _floats(keys: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.asarray(keys).astype(np.float32))


DEGREE = 32
QUERY_LINKS = 16
"""At most this many of a list's neighbours come from training queries."""
NEAREST = 32
"""Lists that a training query is linked to, and near lists that are considered for a list."""
NEAR_CELLS = 6
MAX_QUERIES = 4096
_LENGTH = 1 << 11
"""Mapped centroids are rounded to whole numbers of this length: distances are exact in fp32."""


def build_list_graph(
    clusters: KeyClusters, queries: Tensor | None
) -> tuple[Table, NDArray[np.int32]]:
    """The graph of one head's lists: neighbours `[L, M]`, and the list in the middle of each cell.

    Args:
        queries: `[T, d]` training queries; without any, a plain graph of near lists.
    """
    centroids = torch.from_numpy(clusters.centroids.astype(np.float32))
    cells = torch.from_numpy(clusters.cells.astype(np.float32))
    root = torch.eye(centroids.shape[1]) if queries is None else query_metric(queries)
    mapped, mapped_cells = _round_together(centroids @ root, cells @ root)
    near = _near_lists(mapped, mapped_cells, clusters.cell_starts)
    base = prune_candidates(mapped, near, DEGREE // 2)
    tables = [base, reverse_links(base, DEGREE), near]
    if queries is not None:
        drawn = queries[:: -(-len(queries) // MAX_QUERIES)]
        tables.insert(0, _query_links(centroids, mapped, drawn, QUERY_LINKS))
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


def reverse_links(table: Table, limit: int) -> Table:
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


EXPANDED = 16
ENTRIES = 16
"""Cells that a search begins in."""
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ListGraph:
    """The graph of one head's lists.

    Attributes:
        centroids: `[L, d]` int8. table: neighbours `[L, M]`, -1 where a list has fewer.
        cells: `[Z, d]` int8. entries: `[Z]`, the list in the middle of each cell.
    """

    centroids: NDArray[np.int8]
    table: NDArray[np.int32]
    cells: NDArray[np.int8]
    entries: NDArray[np.int32]


@dataclass(slots=True)
class _Beam:
    """The best lists of each query vector so far: `[R, B]`, and which are still to be expanded."""

    lists: Numbers
    scores: Floats
    is_open: NDArray[np.bool_]

    def take_open(self) -> Numbers:
        """The best open lists, `[R, E]`, -1 filled; they count as expanded from now on."""
        scores = np.where(self.is_open, self.scores, -np.inf)
        best = top_columns(scores, EXPANDED)
        taken = np.take_along_axis(self.lists, best, 1)
        taken[~np.take_along_axis(self.is_open, best, 1)] = -1
        np.put_along_axis(self.is_open, best, False, 1)
        return taken

    def add(self, lists: Numbers, scores: Floats, width: int) -> None:
        """Adds lists `[R, A]`, those that are -1 with a score of -inf; the `width` best stay."""
        self.lists = np.concatenate((self.lists, lists), 1)
        self.scores = np.concatenate((self.scores, scores), 1)
        self.is_open = np.concatenate((self.is_open, lists >= 0), 1)
        best = top_columns(self.scores, width)
        self.lists = np.take_along_axis(self.lists, best, 1)
        self.scores = np.take_along_axis(self.scores, best, 1)
        self.is_open = np.take_along_axis(self.is_open, best, 1)


def best_lists(graph: ListGraph, queries: Floats, beam: int) -> tuple[Numbers, Floats, int]:
    """The best lists that a walk finds for each of `[R, d]` queries: `[R, B]`, in no order.

    Returns:
        The lists, -1 filled; their scores, -inf filled; and how many centroids were read for all
        queries together.
    """
    R = len(queries)
    seen = np.zeros((R, len(graph.centroids)), bool)
    first = graph.entries[top_columns(queries @ graph.cells.astype(np.float32).T, ENTRIES)]
    read = R * len(graph.cells)
    beams = _Beam(np.zeros((R, 0), np.int64), np.zeros((R, 0), np.float32), np.zeros((R, 0), bool))
    ahead = first.astype(np.int64)
    while ahead.size:
        fresh = _drop_seen(ahead, seen)
        scores = _scores(graph.centroids, queries, fresh)
        read += int((fresh >= 0).sum())
        beams.add(fresh, scores, beam)
        taken = beams.take_open()
        if (taken < 0).all():
            break
        ahead = np.where(taken[..., None] < 0, -1, graph.table[taken]).reshape(R, -1)
    return beams.lists, beams.scores, read


def _drop_seen(lists: NDArray[Any], seen: NDArray[np.bool_]) -> Numbers:
    """Each row's lists that were not seen, each once, -1 elsewhere; marks them as seen."""
    lists = np.sort(lists, axis=1)
    lists[:, 1:][lists[:, 1:] == lists[:, :-1]] = -1
    rows = np.arange(len(lists))[:, None]
    lists[seen[rows, lists]] = -1  # -1 looks at the last list, which changes nothing
    found = np.nonzero(lists >= 0)
    seen[found[0], lists[found]] = True
    width = int((lists >= 0).sum(1).max())
    lists.sort(axis=1)
    return lists[:, lists.shape[1] - width :]


def _scores(centroids: NDArray[np.int8], queries: Floats, lists: Numbers) -> Floats:
    """Inner products of each query with its lists: `[R, A]`, -inf for a list of -1."""
    scores = np.full(lists.shape, -np.inf, np.float32)
    for row, own in enumerate(lists):
        real = own >= 0
        scores[row, real] = centroids[own[real]].astype(np.float32) @ queries[row]
    return scores


def top_columns(scores: Floats, count: int) -> Numbers:
    """Columns of the best scores of each row, in no order: `[R, count]`, or all where fewer."""
    if scores.shape[1] <= count:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape).copy()
    return np.argpartition(-scores, count - 1, axis=1)[:, :count]


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
