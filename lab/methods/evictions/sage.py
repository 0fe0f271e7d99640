"""SAGE-KV (arXiv 2503.08879, §3): each head keeps the tokens that a question attended to most.

The paper ranks by the last token of the prompt, once, after reading. Departures: by the mean over
the rows of several bank questions, since the real one is not known when a passage is kept;
smoothed by a box of 5 tokens, since
the neighbours of a token that is looked at belong to its sentence; no recent window, since no text
follows; the mean over a key head's query heads. Given the rows of the question that is asked, it is
the upper bound of its kind: no cache can know them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_thinning.contract import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    check_share,
    even_plan,
    group_mean,
    needed,
)

BOX_TOKENS = 5


class Sage:
    """Ranks tokens by attention of questions.

    Args:
        box: how many tokens are averaged around each; 1 for none.
    """

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "tokens that bank questions attend to", "SAGE-KV, 2503.08879", "rows"
    )

    def __init__(self, box: int = BOX_TOKENS) -> None:
        self.box = box

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """Each head's best tokens by smoothed mean attention."""
        check_share(share)
        rows = needed(passage.rows, "rows").mean(2)
        return even_plan(smooth(group_mean(rows, passage.shape[1]), self.box), share)


def smooth(scores: Tensor, box: int) -> Tensor:
    """The mean of each score and its neighbours, fewer at the ends: `[..., N]` to `[..., N]`."""
    if box <= 1:
        return scores
    flat = scores.reshape(-1, 1, scores.shape[-1])
    mean = torch.nn.functional.avg_pool1d(flat, box, 1, box // 2, count_include_pad=False)
    return mean.view(scores.shape)


Eviction: EvictionClass = Sage
