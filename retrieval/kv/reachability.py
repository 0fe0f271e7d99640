"""A graph in which every key can be found: whatever no path leads to gets a link."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.kv.graph_host import Table, compact_rows

Flags = NDArray[np.bool_]


def reachable_keys(table: Table, seen: Flags, start: NDArray[np.int64]) -> Flags:
    """Which keys a walk from `start` comes to, beside those in `seen`: `[N]`."""
    seen = seen.copy()
    seen[start] = True
    while len(start):
        ahead = np.unique(table[start]).astype(np.int64)
        start = ahead[(ahead >= 0) & ~seen[ahead]]
        seen[start] = True
    return seen


def connect_graph(table: Table, entry: int) -> Table:
    """The graph with one more column, in which every key is reachable from `entry`.

    RoarGraph (§4.3) connects by searching for every key once more. Here only keys that cannot be
    reached get a link, from one of their own neighbours that can be reached, else from any key; a
    key gives at most one, so that no key's list grows long.
    """
    N = len(table)
    spare = np.full(N, -1, np.int32)
    seen = reachable_keys(table, np.zeros(N, np.bool_), np.array([entry]))
    while not seen.all():
        lost = np.flatnonzero(~seen)
        givers, takers = _pair_links(table, lost, seen & (spare < 0))
        spare[givers] = takers
        seen = reachable_keys(_add_links(table, spare), seen, takers)
    return _add_links(table, spare)


def _pair_links(
    table: Table, lost: NDArray[np.int64], free: Flags
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a reached key with a spare link and a lost key that is to have it."""
    near = table[lost]
    able = (near >= 0) & free[near]
    rows = np.flatnonzero(able.any(1))
    if len(rows):
        givers, first = np.unique(near[rows, able[rows].argmax(1)], return_index=True)
        return givers.astype(np.int64), lost[rows[first]]
    return np.flatnonzero(free)[:1], lost[:1]


def _add_links(table: Table, spare: NDArray[np.int32]) -> Table:
    return compact_rows(np.concatenate((table, spare[:, None]), 1))
