"""BalanceKV (arXiv 2502.07861, §3): halves the tokens so that any query's output changes little.

Blocks of 128 consecutive tokens of a head are walked through in pairs. The kernel of two tokens is
exp(k·k'/sqrt(d)) (v·v' + .025) with centred keys; each pair gives one token sign +1 and the other
-1, by a coin that leans against what the signs so far add up to. One sign is kept, each kept token
standing for two: a bias of ln 2 on its logit. T rounds leave 2^-T of the tokens.

Departures: pairs, so that exactly half is kept, where the source walks token by token and repairs
unequal halves; the lean is relative to the block's largest kernel value; no first or last token is
exempt, since the template's opening is the sink; an odd token at the end is dropped.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_thinning.contract import (
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    check_share,
)

BLOCK_TOKENS = 128
LEAN = 4.0
VALUE_OFFSET = 0.025


class Balance:
    """Keeps one token of each pair, T times over, without looking at any question."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "half of the tokens, balanced, again and again",
        "BalanceKV, 2502.07861",
        shares=(1.0, 0.5, 0.25, 0.125),
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """`N // 2^T` tokens of each head, at least one, with bias `T ln 2`."""
        check_share(share, self.info.shares)
        layers, heads, tokens = passage.shape
        keys, values = passage.keys.flatten(0, 1), passage.values.flatten(0, 1)
        ids = torch.arange(tokens).expand(layers * heads, -1)
        draw = torch.Generator().manual_seed(passage.seed)
        rounds = 0
        while rounds < round(-math.log2(share)) and ids.shape[1] > 1:
            at = ids[..., None].expand(-1, -1, keys.shape[-1])
            ids = _halve(ids, keys.gather(1, at), values.gather(1, at), draw)
            rounds += 1
        ids = ids.view(layers, heads, -1)
        bias = torch.full(ids.shape, rounds * math.log(2))
        return EvictionPlan(tuple(ids), tuple(bias) if rounds else None)


def _halve(ids: Tensor, keys: Tensor, values: Tensor, draw: torch.Generator) -> Tensor:
    """One token of each pair: ids `[S, M]`, keys and values `[S, M, d]`, to `[S, M // 2]`."""
    kept = [
        ids[:, a:b].gather(1, _choose(keys[:, a:b], values[:, a:b], draw))
        for a in range(0, ids.shape[1] - 1, BLOCK_TOKENS)
        for b in (min(a + BLOCK_TOKENS, ids.shape[1]),)
    ]
    return torch.cat(kept, 1)


def _choose(keys: Tensor, values: Tensor, draw: torch.Generator) -> Tensor:
    """Which token of each pair of one block is kept: `[S, m // 2]` indices into the block."""
    pairs = keys.shape[1] // 2
    centred = keys - keys.mean(1, keepdim=True)
    exponent = centred @ centred.transpose(1, 2) / math.sqrt(keys.shape[-1])
    exponent = exponent - exponent.amax((1, 2), keepdim=True)
    kernel = exponent.exp() * (values @ values.transpose(1, 2) + VALUE_OFFSET)
    kernel = kernel / kernel.abs().amax((1, 2), keepdim=True).clamp_min(1e-30)
    signs = torch.zeros(keys.shape[:2])
    coins = torch.rand(len(keys), pairs, generator=draw)
    for p in range(pairs):
        difference = kernel[:, 2 * p] - kernel[:, 2 * p + 1]
        chance = (0.5 - LEAN * (difference * signs).sum(-1)).clamp(0, 1)
        sign = torch.where(coins[:, p] < chance, 1.0, -1.0)
        signs[:, 2 * p], signs[:, 2 * p + 1] = sign, -sign
    first = signs[:, 0 : 2 * pairs : 2] > 0
    return torch.arange(0, 2 * pairs, 2) + (~first).long()


Eviction: EvictionClass = Balance
