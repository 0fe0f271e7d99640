"""Attention of a whole batch of packed sequences in one GPU kernel.

    queries  [n_0 | n_1 | ...]              new tokens of each sequence
    keys     [p_0 + n_0 | p_1 + n_1 | ...]  its cached keys, then those of its new tokens

FlashAttention-2 (Dao 2023, arXiv 2307.08691) takes sequences of different lengths end to end, with
the offset where each begins. Where a sequence has fewer queries than keys, the queries belong to
its last tokens. Without such a kernel (torch 2.12 is the first with one that takes a scale, a
window and key heads that queries share), or in fp32, `batched` pads the sequences.
"""

from __future__ import annotations

import inspect
from functools import cache
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
    keys: Tensor,
    values: Tensor,
    offsets: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    scale: float,
    window: int | None,
) -> Tensor:
    """Attention of `query [N, H, d]` to keys and values `[S, Hkv, d]`, packed: `[N, H, d]`.

    Args:
        offsets: int32, where each sequence's queries and keys begin, and where the last end.
        longest: the most queries and keys of a sequence.
        window: how many keys a token attends to, its own included; None for all before it.
    """
    out: Tensor = kernel()(
        query,
        keys,
        values,
        *offsets,
        *longest,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != keys.shape[1],
    )
    return out
