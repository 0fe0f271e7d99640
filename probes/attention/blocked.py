"""Causal attention in blocks of rows, by two products and a softmax that stay in cache.

    keys     0 ........ past ..... past + stop
    block 0  [seen seen seen seen \\         ]
    block 1  [seen seen seen seen seen seen \\]

On a CPU that multiplies bf16 without tiles (AVX-512 BF16), torch's fused kernel reaches an eighth
of the pace of a plain product. Here a block's logits, at most `BLOCK_WEIGHTS` of them, are made,
turned into weights and used before the next block's; most of what is above the diagonal is never
computed. Logits and weights are rounded to bf16, as transformers' eager attention rounds them; sums
inside a product and a softmax are fp32. Figures: docs/log/speed.md.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from tamis.probes.attention.linear_kernels import can_fuse

BLOCK_WEIGHTS = 1 << 19
"""Of one block, all heads together: in bf16 about what a core's second-level cache holds."""

MAX_ROWS, _MIN_ROWS = 128, 32


def _has_tiles() -> bool:
    """Whether the processor multiplies bf16 by tiles (AMX), which torch's own kernel uses well."""
    told = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return told is not None and bool(told())


_HAS_TILES = _has_tiles()


def is_faster(query: Tensor) -> bool:
    """Whether attention of these queries is faster in blocks of rows."""
    return can_fuse(query) and not _HAS_TILES


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    rows: int = 0,
    with_output: bool = True,
) -> tuple[Tensor, Tensor]:
    """What the last tokens of a sequence see of all of it, and how the last of them weigh it.

    Args:
        query: `[H, n, d]` of the last n tokens. key, value: `[Hkv, N, d]` of all N of them.
        rows: of how many of the last tokens the weights are wanted. through: whether what is seen
            is; without it only the weights are computed.

    Returns:
        What is seen `[n, H, d]`, empty unless `through`; softmax weights `[H, rows, N]`.
    """
    H, n, d = query.shape
    kv_heads, N, _ = key.shape
    past, shared = N - n, H // kv_heads
    across, value = key.transpose(1, 2).contiguous(), value.contiguous()
    query = query.reshape(kv_heads, shared, n, d)
    seen = query.new_empty(n if with_output else 0, H, d)
    by_head = seen.view(-1, kv_heads, shared, d).permute(1, 2, 0, 3)
    weights = query.new_empty(H, 0, N)
    for start, stop in (*_blocks(n - rows if with_output else 0, H * N), (n - rows, n)):
        if start == stop:
            continue
        keys = past + stop
        looking = query[:, :, start:stop].reshape(kv_heads, -1, d)
        weights = _softmax(looking, across[..., :keys], stop - start, scale)
        if with_output:
            weighed = torch.bmm(weights, value[:, :keys])
            by_head[:, :, start:stop] = weighed.view(kv_heads, shared, -1, d)
    return seen, weights.view(H, -1, N) if rows else weights[:0].view(H, 0, N)


def _softmax(query: Tensor, across: Tensor, rows: int, scale: float) -> Tensor:
    """A block's weights: `[Hkv, shared·rows, d]` and keys `[Hkv, d, K]` to `[Hkv, shared·rows, K]`.

    Its rows are the last of the K keys, and none sees those behind it.
    """
    zero = query[:1, :1, :1]  # what is added to the product, times beta
    logits = torch.baddbmm(zero, query, across, beta=0, alpha=scale)
    by_row = logits.view(logits.shape[0], -1, rows, logits.shape[-1])
    by_row[..., by_row.shape[-1] - rows :].add_(_causal_bias(rows, query.dtype))
    return logits.softmax(-1)


def _blocks(rows: int, weights: int) -> list[tuple[int, int]]:
    """Half-open spans of nearly equal size that partition `rows`, each with so many `weights`."""
    most = min(MAX_ROWS, max(_MIN_ROWS, BLOCK_WEIGHTS // weights))
    count = -(-rows // most)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


@lru_cache(maxsize=2 * MAX_ROWS)
def _causal_bias(rows: int, dtype: torch.dtype) -> Tensor:
    """-inf where a token comes after the row's, else 0: `[rows, rows]`."""
    return torch.full((rows, rows), -math.inf, dtype=dtype).triu(1)
