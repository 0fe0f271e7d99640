"""DHSA: sentences as chunks, whose scores are given to their tokens.

Source: Dynamic Hierarchical Sparse Attention (2025, arXiv 2510.24606): a text is cut into chunks; a
chunk is √n times its mean key, so that length counts; a query block's best tokens are those of
the chunks that score best.

    c = √n · mean key of n tokens      score of a block = mean over its tokens of q̄ · c(token)

Departures: chunks are the units of the text, where the paper trains a predictor of boundaries;
blocks of keys are chosen in place of single tokens, by the mean score of their tokens; queries are
averaged over the heads of a key head only.
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
    pool_blocks,
)


class Dhsa(contract.Pattern):
    """Blocks by the scores of the sentences in them."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "blocks by the mean keys of their sentences, longer ones counting more",
        "arXiv 2510.24606",
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """Decides in every layer from its queries and keys."""
        return _Sight(self.share, shape)


class _Sight(contract.Sight):
    def __init__(self, share: float, shape: PromptShape) -> None:
        self._share, self._shape = share, shape
        self._owner = chunk_of_tokens(shape.units, shape.tokens)

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
        """The best blocks of each block of queries, as many as the share allows."""
        chunks = chunk_vectors(keys, self._owner)
        pooled = group_mean(pool_blocks(queries), len(keys))
        scores = (pooled @ chunks.mT)[..., self._owner]
        means = torch.stack([part.mean(-1) for part in torch.split(scores, BLOCK, -1)], -1)
        below = causal_blocks(means.shape[-1])
        rank = means.masked_fill(~below, -torch.inf).argsort(-1, descending=True).argsort(-1)
        count = below.sum(-1, keepdim=True)

        def made(part: float) -> Tensor:
            return (rank < (part * count).ceil()) & below

        return bisect_to_share(made, self._share, self._shape.dense_from, len(keys))


def group_mean(states: Tensor, kv_heads: int) -> Tensor:
    """The mean over the query heads of each key head: `[H, B, d]` to `[Hkv, B, d]`."""
    return states.view(kv_heads, -1, *states.shape[1:]).mean(1)


def chunk_of_tokens(units: Tensor, tokens: int) -> Tensor:
    """The number of each token's chunk, from 0 without a gap: `[n]`; gaps are chunks, too."""
    edges = torch.zeros(tokens + 1, dtype=torch.bool)
    edges[units.flatten().clamp_max(tokens)] = True
    edges[0] = True
    return edges[:tokens].cumsum(0) - 1


def chunk_vectors(keys: Tensor, owner: Tensor) -> Tensor:
    """√n times the mean key of each chunk: `[Hkv, n, d]` to `[Hkv, C, d]`."""
    sizes = owner.bincount().float()
    sums = torch.zeros(len(keys), len(sizes), keys.shape[-1]).index_add(1, owner, keys.float())
    return sums / sizes.sqrt()[:, None]


Pattern = Dhsa
