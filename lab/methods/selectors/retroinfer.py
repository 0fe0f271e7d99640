"""RetroInfer's wave index (arXiv 2505.02922, §4.2): small clusters of keys from the same text.

Keys are cut into segments of 8,192; in each, centred keys are clustered by spherical k-means (ten
rounds, 16 keys a cluster on average); the last round keeps centroids that are not normalised, with
the mean added back. Clusters rank by query times centroid, and the best are read whole. A centroid
counts as a key read.

Departures: only the retrieval zone is implemented. The estimation zone, which weighs unread
clusters by their centroids, belongs to attention, not to selection. Clusters rank by one query head
instead of the sum over a group.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    drop_columns_of_none,
    geometric_steps,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

SEGMENT, CLUSTER, ROUNDS = 8192, 16, 10


class RetroInfer:
    """Reads the clusters, of 16 keys within segments of 8,192, with the best centroids."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "clusters of 16 keys within segments of text",
        "RetroInfer, 2505.02922",
        "clusters read",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys
        centroids, owners = [], []
        clusters = 0
        for segment in torch.split(keys, SEGMENT):
            owner = cluster_keys(segment)
            centroids.append(_cluster_means(segment, owner))
            owners.append(owner + clusters)
            clusters += len(centroids[-1])
        self._centroids = torch.cat(centroids)
        self._members = _cluster_members(torch.cat(owners), clusters)

    @property
    def efforts(self) -> list[int]:
        """From the fewest clusters that hold 100 keys to half of the clusters."""
        return geometric_steps(7, max(14, len(self._centroids) / 2), 14)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys of the `effort` clusters whose centroids have the largest logits."""
        queries = prepare_queries(queries, self._keys, k, effort)
        count = min(effort, len(self._centroids))
        best = (queries @ self._centroids.T).topk(count).indices
        ids = drop_columns_of_none(self._members[best].flatten(1))
        read = len(queries) * len(self._centroids) + int((ids >= 0).sum())
        return best_hits(self._keys, queries, ids, k, read)


def cluster_keys(keys: Tensor) -> Tensor:
    """Spherical k-means of centred keys: the cluster of each key, `[N]`, numbered without gaps."""
    directions = normalize(keys - keys.mean(0), dim=1)
    count = max(1, len(keys) // CLUSTER)
    centres = directions[
        torch.linspace(0, len(keys) - 1, count).long()
    ]  # evenly spaced first centres
    owner = (directions @ centres.T).argmax(1)
    for _ in range(ROUNDS - 1):
        sums = torch.zeros_like(centres).index_add(0, owner, directions)
        empty = torch.bincount(owner, minlength=count) == 0
        centres = torch.where(empty[:, None], centres, normalize(sums, dim=1))
        owner = (directions @ centres.T).argmax(1)
    used = torch.bincount(owner, minlength=count) > 0
    return (used.cumsum(0) - 1)[owner]


def _cluster_means(keys: Tensor, owner: Tensor) -> Tensor:
    count = int(owner.max()) + 1
    sums = keys.new_zeros(count, keys.shape[1]).index_add(0, owner, keys)
    return sums / torch.bincount(owner, minlength=count)[:, None]


def _cluster_members(owner: Tensor, clusters: int) -> Tensor:
    """The keys of each cluster: `[C, largest]`, -1 filled."""
    sizes = torch.bincount(owner, minlength=clusters)
    order = owner.argsort(stable=True)
    starts = sizes.cumsum(0) - sizes
    place = torch.arange(len(owner), device=owner.device) - starts[owner[order]]
    table = owner.new_full((clusters, int(sizes.max())), -1)
    table[owner[order], place] = order
    return table


Selector: SelectorClass = RetroInfer
