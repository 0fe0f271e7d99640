"""Causal attention in blocks of rows, by two products and a softmax that stay in cache.

    keys     0 ........ past ..... past + stop
    block 0  [seen seen seen seen \\         ]
    block 1  [seen seen seen seen seen seen \\]

On a CPU that multiplies bf16 without tiles (AVX-512 BF16), torch's fused kernel reaches an eighth
of the pace of a plain product. Here a block's logits, at most `BLOCK_BYTES` of them, are made,
turned into weights and used before the next block's; most of what is above the diagonal is never
computed. Logits and weights are rounded to bf16, as transformers' eager attention rounds them; sums
inside a product and a softmax are fp32. Figures: LOG.md.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from tamis.probes.forward_linear import fused

BLOCK_BYTES = 1 << 20
"""Of one block's logits, all heads together: about what a core's second-level cache holds."""

_LEAST_ROWS, _MOST_ROWS = 32, 128


def _tiles() -> bool:
    """Whether the processor multiplies bf16 by tiles (AMX), which torch's own kernel uses well."""
    told = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return told is not None and bool(told())


_TILES = _tiles()


def able(query: Tensor) -> bool:
    """Whether attention of these queries is faster in blocks of rows."""
    return fused(query) and not _TILES


def attend(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """What the last tokens of a sequence see of all of it.

    Args:
        query: `[H, n, d]` of the last n tokens. key, value: `[Hkv, N, d]` of all N of them.

    Returns:
        `[n, H, d]`.
    """
    H, n, d = query.shape
    kv_heads, N, _ = key.shape
    past, shared = N - n, H // kv_heads
    across, value = key.transpose(1, 2).contiguous(), value.contiguous()
    query = query.reshape(kv_heads, shared, n, d)
    seen = query.new_empty(n, H, d)
    by_head = seen.view(n, kv_heads, shared, d).permute(1, 2, 0, 3)
    for start, stop in _blocks(n, H * N * query.element_size()):
        rows, keys = stop - start, past + stop
        looking = query[:, :, start:stop].reshape(kv_heads, -1, d)
        logits = torch.baddbmm(
            looking[:1, :1, :1], looking, across[..., :keys], beta=0, alpha=scale
        )
        diagonal = logits.view(kv_heads, shared, rows, keys)[..., past + start :]
        diagonal.add_(_later(rows, query.dtype))
        weighed = torch.bmm(logits.softmax(-1), value[:, :keys])
        by_head[:, :, start:stop] = weighed.view(kv_heads, shared, rows, d)
    return seen


def _blocks(rows: int, row_bytes: int) -> list[tuple[int, int]]:
    """Half-open spans of nearly equal size that partition `rows`."""
    most = min(_MOST_ROWS, max(_LEAST_ROWS, BLOCK_BYTES // row_bytes))
    count = -(-rows // most)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


@lru_cache(maxsize=2 * _MOST_ROWS)
def _later(rows: int, dtype: torch.dtype) -> Tensor:
    """-inf where a token comes after the row's, else 0: `[rows, rows]`."""
    return torch.full((rows, rows), -math.inf, dtype=dtype).triu(1)
