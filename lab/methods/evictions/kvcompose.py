"""KVCompose (arXiv 2509.05165, §3): heads keep their own tokens, layers as many as they are worth.

Attention rows are aggregated by their maximum, averaged over the query heads of a key head, and the
mean over key heads is added. Each head's tokens are sorted; the j-th composite token of a layer is
every head's j-th, worth the mean of their scores. The best composites over all layers are kept, so
tensors stay rectangular: heads differ in tokens and not in their number. The first layer's
composites are worth the most any layer's are.

Departures: rows of bank questions, where the paper reads the context again or takes the task's
prompts; no factor for the norm of values, which is off by default there, too.
"""

from __future__ import annotations

from typing import ClassVar

from tamis_lab.methods.kv_thinning.contract import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    best_tokens,
    check_share,
    group_mean,
    needed,
)


class KvCompose:
    """Composite tokens under one budget for all layers.

    Args:
        head_mean: add the mean over key heads to each head's scores.
        first_layer: the first layer's composites are worth the most of any layer's.
    """

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "composite tokens, one budget for all layers", "KVCompose, 2509.05165", "rows"
    )

    def __init__(self, head_mean: bool = True, first_layer: bool = True) -> None:
        self.head_mean, self.first_layer = head_mean, first_layer

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """The best composites of all layers, at least one a layer."""
        check_share(share)
        layers, heads, tokens = passage.shape
        scores = group_mean(needed(passage.rows, "rows").amax(2), heads)
        if self.head_mean:
            scores = scores + scores.mean(1, keepdim=True)
        worth = scores.sort(-1, descending=True).values.mean(1)
        if self.first_layer:
            worth[0] = worth.amax(0)
        budget = max(layers, int(share * layers * tokens))
        worth[:, 0] = float("inf")  # at least one a layer
        chosen = worth.flatten().argsort(dim=-1, descending=True, stable=True)[:budget]
        counts = (chosen // tokens).bincount(minlength=layers).tolist()
        return EvictionPlan(
            tuple(best_tokens(layer, count) for layer, count in zip(scores, counts, strict=True))
        )


Eviction: EvictionClass = KvCompose
