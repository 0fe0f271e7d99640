"""Synthetic keys and queries like those of attention: queries are far from the keys they match."""

from __future__ import annotations

import torch
from torch import Tensor

WIDTH = 16


def keys(count: int, seed: int = 0) -> Tensor:
    """Keys around a common offset, of very different lengths: `[N, 16]`."""
    draw = torch.Generator().manual_seed(seed)
    length = torch.randn(count, 1, generator=draw).mul(0.4).exp()
    return torch.randn(count, WIDTH, generator=draw) * length + 2.0


def queries(count: int, seed: int = 1) -> Tensor:
    """Queries on the other side, which vary in a few directions only: `[Q, 16]`."""
    draw = torch.Generator().manual_seed(seed)
    axes = torch.randn(4, WIDTH, generator=torch.Generator().manual_seed(99))
    return torch.randn(count, 4, generator=draw) @ axes - 1.5


def recall(found: Tensor, wanted: Tensor) -> float:
    """Share of the wanted ids that were found, row by row."""
    is_found = (found[:, :, None] == wanted[:, None, :]).any(1)
    return float(is_found.float().mean())
