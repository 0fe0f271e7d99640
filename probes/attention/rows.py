"""Functions on attention rows: masks, softmax, and the reduction of rows to row groups."""

from __future__ import annotations

import torch
from torch import Tensor

from tamis.probes.prompt import RowSpans
from tamis.probes.signal import RowGroup


def causal_mask(
    start: int, stop: int, keys: int, window: int | None, device: torch.device
) -> Tensor:
    """Which of `keys` positions the rows at positions `[start, stop)` attend to: `[R, N]` bool."""
    row = torch.arange(start, stop, device=device)[:, None]
    column = torch.arange(keys, device=device)[None]
    allowed = column <= row
    return allowed if window is None else allowed & (column > row - window)


def softmax_rows(query: Tensor, key: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Softmax rows in fp32: `query [H, R, d]`, `key [Hkv, N, d]`, `mask [R, N]` to `[H, R, N]`.

    The mask is True where a row attends. Query heads that share a key head are multiplied with it
    together, so that keys are not copied.
    """
    H, R, d = query.shape
    shared = query.float().reshape(key.shape[0], -1, d) * scale
    logits = (shared @ key.float().transpose(1, 2)).view(H, R, -1)
    return logits.masked_fill_(~mask, -torch.inf).softmax(-1)


def normalise_rows(weights: Tensor) -> Tensor:
    """Rows `[..., N]` of weights from 0 on, each divided by its sum; rows of zeros stay."""
    return weights / weights.sum(-1, keepdim=True).clamp_min(1e-30)


def group_rows(weights: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()) -> Tensor:
    """Rows `[..., R, N]` reduced to the given groups, in order: `[..., R', N]`.

    Args:
        sentences: the rows of each sentence of the question; empty where it has no two.
    """
    parts = {
        "question": lambda: weights,
        "question_mean": lambda: weights.mean(-2, keepdim=True),
        "sentence_means": lambda: torch.stack(
            [weights[..., a:b, :].mean(-2) for a, b in sentences], -2
        ),
        "last": lambda: weights[..., -1:, :],
    }
    return torch.cat([parts[group]() for group in _named_groups(groups, sentences)], dim=-2)


def group_rows_fp32(
    weights: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()
) -> Tensor:
    """Softmax rows `[..., R, N]` of any dtype, reduced to groups in fp32: `[..., R', N]`."""
    if is_question_mean(groups, sentences) and weights.shape[-2]:
        return weights.sum(-2, keepdim=True, dtype=torch.float32).div_(weights.shape[-2])
    return group_rows(weights.float(), groups, sentences)


def is_question_mean(groups: tuple[RowGroup, ...], sentences: RowSpans = ()) -> bool:
    """Whether the groups are the mean of all rows and nothing else, which is often faster."""
    return _named_groups(groups, sentences) == ("question_mean",)


def _named_groups(groups: tuple[RowGroup, ...], sentences: RowSpans) -> tuple[RowGroup, ...]:
    """The groups of a question; without several sentences, its only one is the whole."""
    if sentences:
        return groups
    return tuple("question_mean" if group == "sentence_means" else group for group in groups)


def softmax_row_groups(
    query: Tensor,
    key: Tensor,
    tail_mask: Tensor,
    groups: tuple[RowGroup, ...],
    sentences: RowSpans = (),
) -> Tensor:
    """Row groups of a softmax, fp32: scaled `query [H, R, d]`, `key [Hkv, N, d]` to `[H, R', N]`.

    Args:
        tail_mask: `[R, C]`, added to the logits of the last C keys: -inf where a row must not
            attend, else 0.
    """
    H, R, d = query.shape
    logits = query.reshape(key.shape[0], -1, d) @ key.float().transpose(1, 2)
    logits = logits.view(H, R, -1)
    logits[..., logits.shape[-1] - tail_mask.shape[1] :] += tail_mask
    return softmax_groups(logits, groups, sentences)


def softmax_groups(
    logits: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()
) -> Tensor:
    """Row groups of the softmax of logits `[..., R, N]`: `[..., R', N]`. Overwrites the logits.

    For the mean, the division by the sums is part of a matrix product and not a pass of its own.
    """
    if not is_question_mean(groups, sentences) or not logits.shape[-2]:
        return group_rows(logits.softmax(-1), groups, sentences)
    grown = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    sums = grown.sum(-1, keepdim=True)
    return (sums.reciprocal_() / logits.shape[-2]).transpose(-2, -1) @ grown
