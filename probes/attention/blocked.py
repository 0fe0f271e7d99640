"""Causal attention in blocks of rows: two matrix products and a softmax that stay in cache.

    keys     0 ........ past ..... past + stop
    block 0  [used used used used \\         ]
    block 1  [used used used used used used \\]

On a CPU that multiplies bf16 without tiles (AVX-512 BF16), torch's fused kernel reaches an eighth
of the speed of a plain product. Here the logits of one block, at most `BLOCK_WEIGHTS`, are
computed, turned into weights and used before the next block's; most of what is above the diagonal
is never computed. Logits and weights are rounded to bf16, as transformers' eager attention rounds
them; sums inside a product and a softmax are fp32. Figures:
lab/log/speed.md#2026-11-25-attention-in-blocks-of-rows-and-how-long-threads-spin.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from tamis.probes.attention.linear_kernels import can_fuse, has_tiles

BLOCK_WEIGHTS = 1 << 19
"""Logits of one block, all heads together: in bf16 about a core's second-level cache."""

MAX_ROWS, _MIN_ROWS = 128, 32


_HAS_TILES = has_tiles()
"""Which torch's own kernel uses well."""


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
    """Attention of the last n tokens of a sequence to all N, and the weights of the last rows.

    Args:
        query: `[H, n, d]` of the last n tokens.
        key, value: `[Hkv, N, d]` of all N tokens.
        rows: for how many of the last tokens the weights are returned.
        with_output: whether the output is computed; without it only the weights are.

    Returns:
        The output `[n, H, d]`, empty unless `with_output`; softmax weights `[H, rows, N]`.
    """
    H, n, d = query.shape
    kv_heads, N, _ = key.shape
    past, shared = N - n, H // kv_heads
    columns, value = key.transpose(1, 2).contiguous(), value.contiguous()
    query = query.reshape(kv_heads, shared, n, d)
    output = query.new_empty(n if with_output else 0, H, d)
    by_head = output.view(-1, kv_heads, shared, d).permute(1, 2, 0, 3)
    weights = query.new_empty(H, 0, N)
    for start, stop in (*_blocks(n - rows if with_output else 0, H * N), (n - rows, n)):
        if start == stop:
            continue
        keys = past + stop
        block = query[:, :, start:stop].reshape(kv_heads, -1, d)
        weights = _softmax(block, columns[..., :keys], stop - start, scale)
        if with_output:
            averaged = torch.bmm(weights, value[:, :keys])
            by_head[:, :, start:stop] = averaged.view(kv_heads, shared, -1, d)
    return output, weights.view(H, -1, N) if rows else weights[:0].view(H, 0, N)


def _softmax(query: Tensor, columns: Tensor, rows: int, scale: float) -> Tensor:
    """A block's weights: `[Hkv, shared·rows, d]` and keys `[Hkv, d, K]` to `[Hkv, shared·rows, K]`.

    The rows belong to the last of the K tokens, and none attends to a token after its own.
    """
    zero = query[:1, :1, :1]  # the summand that beta=0 ignores
    logits = torch.baddbmm(zero, query, columns, beta=0, alpha=scale)
    by_row = logits.view(logits.shape[0], -1, rows, logits.shape[-1])
    by_row[..., by_row.shape[-1] - rows :].add_(_causal_bias(rows, query.dtype, query.device))
    return logits.softmax(-1)


def _blocks(rows: int, weights: int) -> list[tuple[int, int]]:
    """Half-open spans of nearly equal size that partition `rows`; a row has `weights` logits."""
    max_rows = min(MAX_ROWS, max(_MIN_ROWS, BLOCK_WEIGHTS // weights))
    count = -(-rows // max_rows)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


@lru_cache(maxsize=2 * MAX_ROWS)
def _causal_bias(rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where the column's token comes after the row's, else 0: `[rows, rows]`."""
    return torch.full((rows, rows), -math.inf, dtype=dtype, device=device).triu(1)
