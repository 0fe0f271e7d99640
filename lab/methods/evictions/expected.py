"""Expected attention (kvpress; arXiv 2510.00636): tokens by what questions pay them on average.

With the mean m and the covariance S of a head's query states over training questions, the expected
weight of a key k is proportional to exp(m·k + k'Sk/2), for normally distributed queries. It is
averaged over the query heads of a key head and multiplied with the norm of the value. No pass over
the passage is needed. Departure: states of questions that stand behind another passage, rotated to
the place behind this one.
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


class Expected:
    """Ranks tokens by expected attention times the norm of their value."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "attention expected of training questions", "expected attention, 2510.00636", "queries"
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """Each head's best tokens."""
        check_share(share)
        heads = passage.shape[1]
        weights = expected_weights(needed(passage.queries, "queries"), passage.keys)
        return even_plan(group_mean(weights, heads) * passage.values.norm(dim=-1), share)


def expected_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """Softmax of expected exponentials: `[L, H, B, d]` and `[L, Hkv, N, d]` to `[L, H, N]`."""
    mean = queries.mean(2)
    centred = queries - mean[:, :, None]
    covariance = centred.transpose(2, 3) @ centred / queries.shape[2]
    own = keys.repeat_interleave(queries.shape[1] // keys.shape[1], 1)
    logits = torch.einsum("lhd,lhnd->lhn", mean, own)
    logits = logits + 0.5 * ((own @ covariance) * own).sum(-1)
    return logits.softmax(-1)


Eviction: EvictionClass = Expected
