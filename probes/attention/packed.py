"""Attention over one packed row: each sequence attends to itself and to its cached keys.

keys of a sequence   [0, past) cached   [past, past + n) its own new tokens

The sequences are computed one after the other, without padding: what a CPU runs. Other devices
compute them together, see `batched`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.attention import blocked
from tamis.probes.attention.recorder import (
    Recorder,
    StopForward,
    group_rows_fp32,
    softmax_row_groups,
)

KERNEL_BLOCK_KEYS = 512
"""Keys that torch's kernel processes at once: up to this many, a mask costs nothing."""


def attention_function(recorder: Recorder) -> Callable[..., Tensor]:
    """The attention to run under a recorder; called as `CustomAttention.attend`."""
    return (
        recorder.custom_attention.attend if recorder.custom_attention else partial(attend, recorder)
    )


def attend(
    recorder: Recorder,
    layer: int,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    window: int | None,
) -> Tensor:
    """Attention of `query [1, H, N, d]` to `key` and `value [1, Hkv, N, d]`: `[1, N, H, d]`.

    Raises:
        StopForward: this is the last layer that the recorder needs.
    """
    last = layer == recorder.stop_after
    lengths = recorder.lengths or ()
    blocks = blocked.is_faster(query)
    outs, start = [], 0
    for s, length in enumerate(lengths):
        q, k, v = (part[0, :, start : start + length] for part in (query, key, value))
        start += length
        if recorder.keep_kv:
            recorder.store_kv(s, k, v)
        past = recorder.past_kv[s] if recorder.past_kv is not None else None
        if past is not None:
            k = torch.cat((past[layer].keys.to(k), k), dim=1)
            v = v if last else torch.cat((past[layer].values.to(v), v), dim=1)
        if blocks and (window is None or k.shape[1] <= window):
            outs.append(_attend_in_blocks(recorder, s, layer, q, k, v, scale))
            continue
        if layer in recorder.layers:
            _record(recorder, s, q, k, scale, window)
        if not last:
            outs.append(_attend_sequence(recorder, q, k, v, scale, window))
    if last:
        raise StopForward
    return torch.cat(outs)[None]


def _record(
    recorder: Recorder, s: int, q: Tensor, k: Tensor, scale: float, window: int | None
) -> None:
    """Records the rows of sequence `s`, whose last token has the last key."""
    first, stop = recorder.row_spans[s]
    past = k.shape[1] - q.shape[1]
    rows = q[:, first:stop].float() * scale
    if recorder.record_queries:
        recorder.queries[s].append(rows)
    tail_mask = recorder.tail_mask(first + past, stop + past, k.shape[1], window, rows)
    recorder.weights[s].append(
        softmax_row_groups(rows, k, tail_mask, recorder.groups, recorder.sentences_of(s))
    )


def _attend_in_blocks(
    recorder: Recorder, s: int, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> Tensor:
    """Attention output of new tokens, `[n, H, d]`, in blocks; records rows in the same pass.

    That is possible for few rows at the end of the sequence; others are computed separately.
    """
    first, stop = recorder.row_spans[s]
    record, with_output = layer in recorder.layers, layer != recorder.stop_after
    few = 0 < stop - first <= blocked.MAX_ROWS
    if record and few and stop == q.shape[1] and not recorder.record_queries:
        output, weights = blocked.attend(q, k, v, scale, stop - first, with_output)
        recorder.weights[s].append(
            group_rows_fp32(weights, recorder.groups, recorder.sentences_of(s))
        )
        return output
    if record:
        _record(recorder, s, q, k, scale, None)
    return blocked.attend(q, k, v, scale, 0, with_output)[0]


def _attend_sequence(
    recorder: Recorder, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None
) -> Tensor:
    """Attention output of new tokens, `[n, H, d]`, by torch's kernel; by its causal mode if faster.

    Causal mode aligns the first query with the first key, so dummy rows for the cached tokens are
    put before the others.
    """
    length, keys = q.shape[1], k.shape[1]
    past = keys - length
    masked = window is not None and keys > window
    if masked or (past and keys <= KERNEL_BLOCK_KEYS):
        mask = recorder.mask(past, keys, window, q)
        return _sdpa(q, k, v, mask, scale).transpose(0, 1)
    if past:
        q = torch.cat((q[:, :1].expand(-1, past, -1), q), 1)
    return _sdpa(q, k, v, None, scale)[:, past:].transpose(0, 1)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    """Attention of new tokens to all keys, `[H, n, d]`; causal where there is no mask."""
    return scaled_dot_product_attention(
        q[None],
        k[None],
        v[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q.shape[0] != k.shape[0],
    )[0]
