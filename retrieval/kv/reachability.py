"""Connects a graph: keys that no path leads to get a link, so that every key can be found."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.kv.faiss_graph import Table, compact_rows

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
