"""The arithmetic of attention rows: who sees whom, their softmax, and how rows are reduced."""

from __future__ import annotations

import torch
from torch import Tensor

from tamis.probes.signal import RowGroup


def causal_mask(
    start: int, stop: int, keys: int, window: int | None, device: torch.device
) -> Tensor:
    """Which of `keys` positions the rows at positions `[start, stop)` see: `[R, N]` bool."""
    row = torch.arange(start, stop, device=device)[:, None]
    column = torch.arange(keys, device=device)[None]
    seen = column <= row
    return seen if window is None else seen & (column > row - window)


def softmax_rows(query: Tensor, key: Tensor, seen: Tensor, scale: float) -> Tensor:
    """Softmax rows in fp32: `query [H, R, d]`, `key [Hkv, N, d]`, `seen [R, N]` to `[H, R, N]`.

    Query heads that share a key head are multiplied with it together, so keys are not copied.
    """
    H, R, d = query.shape
    shared = query.float().reshape(key.shape[0], -1, d) * scale
    logits = (shared @ key.float().transpose(1, 2)).view(H, R, -1)
    return logits.masked_fill_(~seen, -torch.inf).softmax(-1)


def group_rows(weights: Tensor, groups: tuple[RowGroup, ...]) -> Tensor:
    """Recorded rows `[..., R, N]` reduced to the groups asked for, in order: `[..., R', N]`."""
    parts = {
        "question": lambda: weights,
        "question_mean": lambda: weights.mean(-2, keepdim=True),
        "last": lambda: weights[..., -1:, :],
    }
    return torch.cat([parts[group]() for group in groups], dim=-2)


def group_rows_fp32(weights: Tensor, groups: tuple[RowGroup, ...]) -> Tensor:
    """Rows `[..., R, N]` of a softmax in any dtype, in groups: `[..., R', N]` fp32."""
    if groups == ("question_mean",) and weights.shape[-2]:
        return weights.sum(-2, keepdim=True, dtype=torch.float32).div_(weights.shape[-2])
    return group_rows(weights.float(), groups)


def softmax_row_groups(
    query: Tensor, key: Tensor, later: Tensor, groups: tuple[RowGroup, ...]
) -> Tensor:
    """Softmax rows in fp32 in groups: scaled `query [H, R, d]`, `key [Hkv, N, d]` to `[H, R', N]`.

    Args:
        later: `[R, C]`, added to the logits of the last C keys: -inf where a row must not see.
    """
    H, R, d = query.shape
    logits = query.reshape(key.shape[0], -1, d) @ key.float().transpose(1, 2)
    logits = logits.view(H, R, -1)
    logits[..., logits.shape[-1] - later.shape[1] :] += later
    return softmax_groups(logits, groups)


def softmax_groups(logits: Tensor, groups: tuple[RowGroup, ...]) -> Tensor:
    """Softmax of logits `[..., R, N]`, in groups: `[..., R', N]`. The logits are used up.

    The mean divides last, and what it divides is smaller by the number of rows.
    """
    if groups != ("question_mean",) or not logits.shape[-2]:
        return group_rows(logits.softmax(-1), groups)
    grown = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    sums = grown.sum(-1, keepdim=True)
    return (sums.reciprocal_() / logits.shape[-2]).transpose(-2, -1) @ grown
