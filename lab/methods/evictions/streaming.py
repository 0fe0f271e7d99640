"""StreamingLLM (arXiv 2309.17453, §3.2): the first tokens and the last ones, whatever they say.

Departures: keys keep their rotation, where the paper counts positions inside the cache; the
template's opening is a sink already and always there, so no token of the passage has to be one:
`Streaming(sinks=0)` is the variant that spends the whole budget on the last tokens.
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
    head_budget,
)

SINKS = 4


class Streaming:
    """Keeps the first `sinks` tokens and the last ones, the same in every head."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "the first 4 tokens and the last ones", "StreamingLLM, 2309.17453"
    )

    def __init__(self, sinks: int = SINKS) -> None:
        self.sinks = sinks

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """First and last tokens; where the budget is below the sinks, the first ones alone."""
        check_share(share)
        layers, heads, tokens = passage.shape
        budget = head_budget(tokens, share)
        first = min(self.sinks, budget)
        ids = torch.cat((torch.arange(first), torch.arange(tokens - budget + first, tokens)))
        return EvictionPlan((ids.expand(heads, -1),) * layers)


Eviction: EvictionClass = Streaming
