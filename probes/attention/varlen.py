"""Attention of a whole pack in one kernel, on a GPU.

    queries  [n_0 | n_1 | ...]              new tokens of each sequence
    keys     [p_0 + n_0 | p_1 + n_1 | ...]  what was kept for it, then its own

FlashAttention-2 (Dao 2023, arXiv 2307.08691) takes sequences of different lengths end to end, with
the places where each begins. Where the queries of a sequence are fewer than its keys, they are its
last tokens. Without such a kernel, or in fp32, `packs` goes sequence by sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

_MIN_CAPABILITY = 8  # Ampere


@cache
def kernel() -> Any:
    """Torch's; None where it is too old. To import it takes a second, and only GPUs run it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn


def is_supported(query: Tensor) -> bool:
    """Whether one kernel takes a pack of these states."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device)[0] >= _MIN_CAPABILITY
        and kernel() is not None
    )


def attend(
    query: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    lengths: Sequence[int],
    scale: float,
    window: int | None,
) -> Tensor:
    """`query [H, N, d]`, per sequence `[Hkv, p + n, d]` keys and values, to `[N, H, d]`.

    Args:
        lengths: new tokens of each sequence; they add up to N.
        window: keys that a token sees, itself among them; None for all before it.
    """
    there = [part.shape[1] for part in keys]
    left = -1 if window is None else window - 1
    out: Tensor = kernel()(
        query.transpose(0, 1).contiguous(),
        torch.cat(list(keys), 1).transpose(0, 1).contiguous(),
        torch.cat(list(values), 1).transpose(0, 1).contiguous(),
        _starts(lengths, query.device),
        _starts(there, query.device),
        max(lengths),
        max(there),
        scale=scale,
        window_size=(left, 0),
        enable_gqa=query.shape[0] != keys[0].shape[0],
    )
    return out


def _starts(lengths: Sequence[int], device: torch.device) -> Tensor:
    """Where each sequence begins, and where the last ends: int32, as the kernel wants it."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
