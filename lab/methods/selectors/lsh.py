"""HyperAttention's hashing (arXiv 2310.05869, §3.1): keys in the order of their signs.

The signs of 7 random projections are a number; its place in the reflected Gray order, where
neighbours differ in one sign, is a vector's rank. Keys are read in the order of the distance of
their rank from the query's. A projection counts as a key read, a key's signs as 7 bits of one.

Departures: keys are read by each row's own order, not block against block, and unread keys are not
estimated from a sample, which belongs to attention; both sides are mapped so that plain distance
follows logits (`query_metric`), and keys are centred, since otherwise nearly all signs agree.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.retrieval.approximate.graph import query_metric
from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    geometric_steps,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

PROJECTIONS, SEED = 7, 0


class Lsh:
    """Reads the keys whose signs are near those of the query."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "keys by the signs of seven projections", "HyperAttention, 2310.05869", "keys read whole"
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys, D = keys, keys.shape[1]
        root = query_metric(train).cpu() if len(train) else torch.eye(D)
        draw = torch.Generator().manual_seed(SEED)
        directions = torch.randn(D, PROJECTIONS, generator=draw)
        self._query_map = torch.linalg.solve(root, directions).to(keys)
        self._ranks = gray_ranks((keys - keys.mean(0)) @ (root @ directions).to(keys))

    @property
    def efforts(self) -> list[int]:
        """From 100 keys to all."""
        return geometric_steps(100, max(100, len(self._keys)))

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best of the `effort` keys whose ranks are nearest the query's."""
        queries = prepare_queries(queries, self._keys, k, effort)
        (N, D), count = self._keys.shape, min(max(effort, k), len(self._keys))
        distance = (gray_ranks(queries @ self._query_map)[:, None] - self._ranks).abs()
        ids = distance.sort(dim=1, stable=True).indices[:, :count]
        read = PROJECTIONS + N * PROJECTIONS / (32 * D) + count
        return best_hits(self._keys, queries, ids, k, round(read * len(queries)))


def gray_ranks(projections: Tensor) -> Tensor:
    """The place of each vector's signs in the reflected Gray order: `[N, r]` to `[N]`."""
    # bit i of the place is the parity of all higher signs and its own
    bits = (projections > 0).long().cumsum(1) % 2
    return bits @ (2 ** torch.arange(bits.shape[1] - 1, -1, -1, device=bits.device))


Selector: SelectorClass = Lsh
