"""Attention rows of any tokens behind the template's opening, not of a question alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.batched import BatchedAttention
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import RowGroup, Want


def sequence_rows(
    proxy: Proxy, ids: Sequence[int], rows: tuple[int, int], group: RowGroup, layers: int
) -> Tensor:
    """The attention that some tokens pay to the whole sequence: `[L, H, R', N]` fp32.

    Args:
        ids: N tokens that follow the opening. rows: the half-open span of those that attend.
        group: what their rows are reduced to. layers: how many are recorded, from the first.

    Raises:
        BadInput: more layers than the proxy was loaded with, or a sequence beyond its context.
    """
    opening = proxy.opening_kv()
    want = Want(tuple(range(layers)), (group,))
    recorder, _ = proxy._run([tuple(ids)], [rows], [opening], want)
    start = opening[0].keys.shape[1]
    batched = recorder.custom_attention
    if isinstance(batched, BatchedAttention):
        return batched.weights(0)[..., start:]
    return torch.stack(recorder.weights[0])[..., start:]
