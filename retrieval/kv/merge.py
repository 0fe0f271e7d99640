"""Partial attentions joined exactly (RetrievalAttention, arXiv 2409.10516, §3.3).

Attention over disjoint sets of keys is computed set by set: what is always read, what an index
retrieved, what is new. Each part gives its output and the log of its softmax denominator; joined,
they are the attention over the union. A key in no part counts as zero weight.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.probes.errors import BadInput


@dataclass(frozen=True, slots=True)
class Partial:
    """Attention over one set of keys.

    Attributes:
        output: `[Q, d]` fp32, weighted mean of the set's values; zero over an empty set.
        lse: `[Q]` fp32, log-sum-exp of the set's logits; -inf over an empty set.
    """

    output: Tensor
    lse: Tensor


def partial(queries: Tensor, keys: Tensor, values: Tensor, ids: Tensor | None = None) -> Partial:
    """Attention of `[Q, D]` queries (scaled) over `[N, D]` keys with `[N, d]` values.

    Args:
        ids: `[Q, k]`, the keys that each query reads, each once, as `Hits.ids`; -1 is none. None
            for all keys.
    """
    queries, keys, values = queries.float(), keys.float(), values.float()
    if ids is None:
        return _over(queries @ keys.T, lambda weights: weights @ values)
    there = ids >= 0
    rows = ids.clamp_min(0)
    logits = torch.einsum("qd,qkd->qk", queries, keys[rows]).masked_fill(~there, -torch.inf)
    return _over(logits, lambda weights: torch.einsum("qk,qkd->qd", weights, values[rows]))


def merge(parts: Sequence[Partial]) -> Partial:
    """The attention over the union of disjoint sets.

    Raises:
        BadInput: no parts, or parts of different shapes.
    """
    shapes = {tuple(part.output.shape) for part in parts}
    if len(shapes) != 1:
        raise BadInput(f"parts have shapes {sorted(shapes)}; give at least one, all of one shape")
    lse = torch.stack([part.lse for part in parts])  # [P, Q]
    weights = _softmax(lse)
    output = torch.einsum("pq,pqd->qd", weights, torch.stack([part.output for part in parts]))
    return Partial(output, lse.logsumexp(0))


def _over(logits: Tensor, weigh: Callable[[Tensor], Tensor]) -> Partial:
    return Partial(weigh(_softmax(logits.T).T), logits.logsumexp(-1))


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the first axis; zero where every logit is -inf, not NaN."""
    nothing = (logits == -torch.inf).all(0)
    return logits.softmax(0).masked_fill(nothing, 0.0)
