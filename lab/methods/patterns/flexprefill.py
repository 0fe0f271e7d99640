"""FlexPrefill: each head chooses its form by the last rows, and takes blocks until a share is met.

Source: FlexPrefill (Lai et al. 2025, arXiv 2502.20766, §3): a head whose pooled estimate agrees
with the true block masses of the last rows is query-aware, any other vertical-slash.

    v   block masses of the sampled rows, exact       e   softmax of mean query times mean keys
    √JSD(e, v) < τ   pooled queries times pooled keys, best blocks of the whole map until γ
    else             columns and distances of the sampled rows, the fewest of each that reach γ

Departures: the sampled rows are the question's and the block before them; columns and distances are
summed by block before the fewest are chosen; γ is bisected so that the share of blocks is met,
where the paper sets γ to .9; no least budget.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import (
    BLOCK,
    PatternInfo,
    PromptShape,
    bisect_to_share,
    causal_blocks,
    column_and_slash_masses,
    count_blocks,
    fewest,
    pool_blocks,
    sampled_weights,
    share_keys,
    verticals_and_slashes,
)

THRESHOLD = 0.1


class FlexPrefill(contract.Pattern):
    """Query-aware or vertical-slash, head by head."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "each head by pooled blocks, or by columns and diagonals of the last rows",
        "arXiv 2502.20766",
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """Decides in every layer from its queries and keys."""
        return _Sight(self.share, shape)


class _Sight(contract.Sight):
    def __init__(self, share: float, shape: PromptShape) -> None:
        self._share, self._shape = share, shape

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
        """The blocks of each key head at the share."""
        first = max(0, self._shape.context - BLOCK)
        rows = torch.arange(first, self._shape.tokens)
        weights = sampled_weights(queries, keys, rows)
        columns, slashes = column_and_slash_masses(weights, rows)
        pooled = pooled_map(queries, keys)
        aware = divergence(estimate(queries, keys, rows), columns).sqrt() < THRESHOLD

        def made(gamma: float) -> Tensor:
            seen = verticals_and_slashes(fewest(columns, gamma), fewest(slashes, gamma))
            if aware.any():
                seen[aware] = best_of_map(pooled[aware], gamma)
            return seen

        return bisect_to_share(made, self._share, self._shape.dense_from, len(keys))


def estimate(queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
    """Softmax over blocks of the rows' mean query times the blocks' mean keys: `[H, B]`."""
    query = queries[:, rows].float().mean(1)
    means = share_keys(pool_blocks(keys), len(queries))
    return torch.einsum("hd,hbd->hb", query, means).softmax(-1)


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence of rows of shares, in nats: `[H, B]` twice to `[H]`."""
    middle = (p + q) / 2
    return (torch.xlogy(p, p / middle).nansum(-1) + torch.xlogy(q, q / middle).nansum(-1)) / 2


def pooled_map(queries: Tensor, keys: Tensor) -> Tensor:
    """Causal softmax of pooled queries over pooled keys: `[H, B, B]`."""
    logits = pool_blocks(queries) @ share_keys(pool_blocks(keys), len(queries)).mT
    blocks = count_blocks(queries.shape[1])
    return logits.masked_fill(~causal_blocks(blocks), -torch.inf).softmax(-1)


def best_of_map(pooled: Tensor, gamma: float) -> Tensor:
    """The fewest entries of a whole map that reach a share of it: `[H, B, B]` bool."""
    return fewest(pooled.flatten(1), gamma).view(pooled.shape)


Pattern = FlexPrefill
