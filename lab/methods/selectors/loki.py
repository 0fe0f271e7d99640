"""Loki (arXiv 2406.02542, §4): keys ranked by their first principal components.

Keys are rotated onto their principal axes; the first quarter of the components gives approximate
logits of all keys, and the best of those keys are read whole. A quarter of a key counts as a
quarter of a key read.

Departures: the axes come from the indexed keys instead of a calibration set, which can only help
the method; keys are taken after rotary positions (the paper tries both).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes.devices import to_float64
from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    geometric_steps,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

SHARE = 0.25


class Loki:
    """Ranks all keys by their first principal components."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "all keys in a quarter of their principal components", "Loki, 2406.02542", "keys read whole"
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys
        covariance = torch.cov(to_float64(keys).T, correction=0)  # without: of one key, too
        axes = torch.linalg.eigh(covariance.view(-1, keys.shape[1])).eigenvectors.flip(1)
        width = max(1, round(SHARE * keys.shape[1]))
        self._axes = axes[:, :width].to(keys)
        self._components = keys @ self._axes

    @property
    def efforts(self) -> list[int]:
        """From 100 keys to half of the keys."""
        return geometric_steps(100, max(200, len(self._keys) / 2))

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best of the `effort` keys with the highest approximate logits."""
        queries = prepare_queries(queries, self._keys, k, effort)
        N, count = len(self._keys), min(max(effort, k), len(self._keys))
        ids = ((queries @ self._axes) @ self._components.T).topk(count).indices
        share = self._axes.shape[1] / self._keys.shape[1]
        return best_hits(self._keys, queries, ids, k, round((N * share + count) * len(queries)))


Selector: SelectorClass = Loki
