"""Beam search of a graph of lists, for all query vectors of a question side by side.

In each step every query vector looks at the neighbours of its `EXPANDED` best lists that it has not
expanded yet; the `beam` best lists stay. It ends when all of those are expanded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.retrieval.approximate.types import Floats

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
        fresh = _unseen(ahead, seen)
        scores = _scores(graph.centroids, queries, fresh)
        read += int((fresh >= 0).sum())
        beams.add(fresh, scores, beam)
        taken = beams.take_open()
        if (taken < 0).all():
            break
        ahead = np.where(taken[..., None] < 0, -1, graph.table[taken]).reshape(R, -1)
    return beams.lists, beams.scores, read


def _unseen(lists: NDArray[Any], seen: NDArray[np.bool_]) -> Numbers:
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
