"""SparQ (arXiv 2312.04985, §4): keys ranked by the query's largest components.

The quarter of a query's components that is largest in magnitude gives approximate logits of all
keys, and the best of those keys are read whole. A quarter of a key counts as a quarter of a key
read.

The softmax of the approximate logits, divided by the square root of the share of the query's
magnitude that its largest components hold, says how much attention the keys found have; attention
gives the rest to the mean of all values (`KeyHits.mass`).

Departures: magnitudes are not summed over the query heads of a group, since each head is searched
separately; the paper's window of the latest keys, which are read whatever their logits, is left
out: a passage's last tokens are no nearer to the question than its first.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    geometric_steps,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

SHARE = 0.25


class Sparq:
    """Ranks all keys by each query's largest components."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "all keys in the query's largest quarter of components",
        "SparQ, 2312.04985",
        "keys read whole",
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys

    @property
    def efforts(self) -> list[int]:
        """From 100 keys to half of the keys."""
        return geometric_steps(100, max(200, len(self._keys) / 2))

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best of the `effort` keys with the highest approximate logits."""
        queries = prepare_queries(queries, self._keys, k, effort)
        N, D = self._keys.shape
        count, width = min(max(effort, k), N), max(1, round(SHARE * D))
        largest = queries.abs().topk(width).indices
        sparse = torch.zeros_like(queries).scatter(1, largest, queries.gather(1, largest))
        logits = sparse @ self._keys.T
        ids, read = logits.topk(count).indices, round((N * width / D + count) * len(queries))
        hits = best_hits(self._keys, queries, ids, k, read)
        share = (sparse.abs().sum(1) / queries.abs().sum(1).clamp_min(1e-12)).clamp_min(1e-12)
        weights = (logits / share.sqrt()[:, None]).softmax(1).gather(1, hits.ids.clamp_min(0))
        return replace(hits, mass=weights.masked_fill(hits.ids < 0, 0).sum(1))


Selector: SelectorClass = Sparq
