"""Loki (arXiv 2406.02542, §4): keys rank in their first principal components.

Keys are rotated onto their principal axes; the first quarter of the components gives approximate
logits of all keys, and the best of those are read whole. A quarter of a key counts as a quarter of
a key read.

Departures: the axes come from the keys indexed instead of a calibration set, which can only help
it; keys are taken after rotation (the paper tries both).
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.retrieval.kv.selector import SelectorInfo, prepare_queries, best_hits, checked_some, geometric_steps
from tamis.retrieval.kv.types import KeyHits

SHARE = 0.25


class Loki:
    """Approximate logits from the first principal components."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "all keys in a quarter of their principal components", "Loki, 2406.02542", "keys read whole"
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = checked_some(keys)
        spread = torch.cov(keys.double().T, correction=0)  # one key has no spread, and no axes
        axes = torch.linalg.eigh(spread.view(-1, keys.shape[1])).eigenvectors.flip(1)
        width = max(1, round(SHARE * keys.shape[1]))
        self._axes = axes[:, :width].to(keys)
        self._short = keys @ self._axes

    @property
    def efforts(self) -> list[int]:
        """From 100 keys to a half of them."""
        return geometric_steps(100, max(200, len(self._keys) / 2))

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best of the `effort` keys with the highest approximate logits."""
        queries = prepare_queries(queries, self._keys, k, effort)
        N, most = len(self._keys), min(max(effort, k), len(self._keys))
        ids = ((queries @ self._axes) @ self._short.T).topk(most).indices
        share = self._axes.shape[1] / self._keys.shape[1]
        return best_hits(self._keys, queries, ids, k, round((N * share + most) * len(queries)))


Selector = Loki
