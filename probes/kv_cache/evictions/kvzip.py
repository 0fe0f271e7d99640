"""KVzip (arXiv 2505.23416, §3): tokens that the model looks at when it repeats the passage.

The passage is read again behind itself and a request to repeat it; a token's score is the largest
attention that any row of the repetition pays to it, over the query heads of a key head. One budget
for all layers and heads, so heads keep different numbers. It costs a second reading. Departure: the
repetition is read in one piece, since passages are short.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from tamis.probes.kv_cache.eviction import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    by_key_head,
    check_share,
    needed,
    ragged_plan,
)


class KvZip:
    """The best tokens of all heads together."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "tokens that repeating the passage looks at", "KVzip, 2505.23416", "repeated_rows"
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """The best of all heads' tokens, at least one a head."""
        check_share(share)
        layers, heads, tokens = passage.shape
        rows = needed(passage.rows, "repeated rows").amax(2)
        scores = by_key_head(rows, heads).amax(2)
        best = scores.argmax(-1, keepdim=True)
        scores = scores.scatter(-1, best, float("inf"))  # at least one a head
        budget = max(layers * heads, int(share * layers * heads * tokens))
        kept = scores.new_zeros(scores.numel(), dtype=torch.bool)
        kept[scores.flatten().argsort(dim=-1, descending=True, stable=True)[:budget]] = True
        return ragged_plan(kept.view(scores.shape))


Eviction: EvictionClass = KvZip
