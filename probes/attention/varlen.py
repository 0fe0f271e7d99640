"""Attention of a whole batch of packed sequences in one GPU kernel.

    queries  [n_0 | n_1 | ...]              new tokens of each sequence
    keys     [p_0 + n_0 | p_1 + n_1 | ...]  its cached keys, then those of its new tokens

FlashAttention-2 (Dao 2023, arXiv 2307.08691) takes sequences of different lengths end to end, with
the offset where each begins. Where a sequence has fewer queries than keys, the queries belong to
its last tokens. Without such a kernel (torch 2.12 is the first with one that takes a scale, a
window and key heads that queries share), or in fp32, `packed` runs sequence by sequence.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

_MIN_CAPABILITY = 8  # Ampere
_NEEDED = {"scale", "window_size", "enable_gqa"}


@cache
def kernel() -> Any:
    """Torch's kernel, or None if torch has none or one without an option that `attend` needs.

    Imported late: it takes a second.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if set(inspect.signature(varlen_attn).parameters) >= _NEEDED else None


def is_supported(query: Tensor) -> bool:
    """Whether the kernel supports these query states."""
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
    """Attention of `query [H, N, d]` to keys and values `[Hkv, p + n, d]` each: `[N, H, d]`.

    Args:
        lengths: new tokens of each sequence; they add up to N.
        window: how many keys a token attends to, its own included; None for all before it.
    """
    key_lengths = [part.shape[1] for part in keys]
    left = -1 if window is None else window - 1
    out: Tensor = kernel()(
        query.transpose(0, 1).contiguous(),
        torch.cat(list(keys), 1).transpose(0, 1).contiguous(),
        torch.cat(list(values), 1).transpose(0, 1).contiguous(),
        _starts(lengths, query.device),
        _starts(key_lengths, query.device),
        max(lengths),
        max(key_lengths),
        scale=scale,
        window_size=(left, 0),
        enable_gqa=query.shape[0] != keys[0].shape[0],
    )
    return out


def _starts(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The offset where each sequence begins, and where the last ends, in int32."""
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)
