"""Clusters keys into short lists, by k-means on two levels: cells, and in each cell its lists.

keys [N, d] int8 ─► cells [Z] ─► lists [L] of some `LIST_KEYS` keys each, numbered cell by cell

Products of keys and centroids are whole numbers below 2^24, which fp32 holds exactly: the same keys
make the same lists, whatever the number of threads and the order in which they add.
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

from tamis.retrieval.approximate.types import Progress

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
    return _join_cells(lists)


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


def _join_cells(
    lists: list[tuple[Tensor, NDArray[np.int64], NDArray[np.int32]]],
) -> KeyClusters:
    weights = [torch.from_numpy(sizes).double()[:, None] for _, sizes, _ in lists]
    cells = [
        (means.double() * n).sum(0) / n.sum()
        for (means, _, _), n in zip(lists, weights, strict=True)
    ]
    return KeyClusters(
        torch.cat([means for means, _, _ in lists]).round().to(torch.int8).numpy(),
        np.cumsum([0, *np.concatenate([sizes for _, sizes, _ in lists])], dtype=np.int64),
        np.concatenate([members for _, _, members in lists]),
        torch.stack(cells).round().to(torch.int8).numpy(),
        np.cumsum([0, *(len(means) for means, _, _ in lists)], dtype=np.int64),
    )


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
