"""Whole heads: those that a probe weighs most keep every token, the others keep none.

The idea of DuoAttention (arXiv 2410.10819) and RazorAttention (arXiv 2407.15891): only some heads
retrieve. Theirs are found by training or by probing for copies; here the probe that reads the
attention says which of its heads it weighs, and a key head is as large as the largest of its query
heads. A head without tokens still sees the opening and the question.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from tamis_lab.methods.kv_thinning.contract import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    check_share,
    needed,
    ragged_plan,
)


class LookBack:
    """Key heads in order of their size, all or nothing."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "all tokens of the heads that a probe weighs most",
        "after DuoAttention, 2410.10819",
        "sizes",
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """As many whole heads as the budget holds, at least one."""
        check_share(share)
        layers, heads, tokens = passage.shape
        order = (
            needed(passage.sizes, "sizes").flatten().argsort(dim=-1, descending=True, stable=True)
        )
        whole = torch.zeros(layers * heads, dtype=torch.bool)
        whole[order[: max(1, int(share * layers * heads))]] = True
        return ragged_plan(whole.view(layers, heads, 1).expand(-1, -1, tokens))


Eviction: EvictionClass = LookBack
