"""SpAtten (arXiv 2012.09852, §3.2): cascading pruning by attention that tokens have drawn so far.

A token's importance is the attention that all heads and rows have paid to it, summed over the
layers so far; what is pruned in one layer is in no later one. Departures: the rows are the
passage's own, so that the cache is ready before any question; the number of tokens falls with depth
along a line, whose slope spends the budget; heads are not pruned, and keys not fetched bit by bit.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes.kv_cache.eviction import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    best_tokens,
    check_share,
    needed,
)

_STEPS = 60


class SpAtten:
    """A set of tokens that narrows from layer to layer, the same for all heads."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "tokens by the passage's own attention, fewer with depth",
        "SpAtten, 2012.09852",
        "own_rows",
        nested=False,
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """The tokens that go on to each layer."""
        check_share(share)
        layers, heads, tokens = passage.shape
        drawn = needed(passage.rows, "own rows").mean(2).sum(1).cumsum(0)  # [L, N]
        alive, ids = torch.arange(tokens, device=drawn.device), []
        for importance, count in zip(drawn, tokens_by_layer(layers, tokens, share), strict=True):
            alive = alive[best_tokens(importance[alive], count)]
            ids.append(alive.expand(heads, -1))
        return EvictionPlan(tuple(ids))


def tokens_by_layer(layers: int, tokens: int, share: float) -> list[int]:
    """How many tokens each layer keeps: never more than the one before, in all at most the share.

    The share of a layer falls along a line, cut off at 1; its height is found by bisection.
    """
    line = 1 - (torch.arange(layers, dtype=torch.float64) + 0.5) / layers

    def counts(height: float) -> Tensor:
        return (line * height).clamp_max(1).mul(tokens).add(1e-6).floor().clamp_min(1)

    low, high = 0.0, 2.0 * layers
    if float(counts(high).sum()) <= share * layers * tokens:
        return [int(count) for count in counts(high)]
    for _ in range(_STEPS):
        middle = (low + high) / 2
        fits = float(counts(middle).sum()) <= share * layers * tokens
        low, high = (middle, high) if fits else (low, middle)
    return [int(count) for count in counts(low)]


Eviction: EvictionClass = SpAtten
