"""Any tokens, drawn for each head: the baseline that says what a budget is worth by itself."""

from __future__ import annotations

from typing import ClassVar

import torch

from tamis_lab.methods.kv_thinning.contract import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    check_share,
    even_plan,
)


class Random:
    """Draws an order of the tokens of each head, by the passage's seed."""

    info: ClassVar[EvictionInfo] = EvictionInfo("tokens drawn for each head", "baseline")

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """The first tokens of the drawn order."""
        check_share(share)
        draws = torch.rand(passage.shape, generator=torch.Generator().manual_seed(passage.seed))
        return even_plan(draws, share)


Eviction: EvictionClass = Random
