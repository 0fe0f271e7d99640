"""Attention over one packed row: each sequence over itself and over what was kept for it.

keys of a sequence   [0, past) kept   [past, past + n) its own new tokens
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.attention import blocked, varlen
from tamis.probes.attention.recorder import Recorder, StopForward
from tamis.probes.attention.rows import group_rows_fp32, softmax_row_groups

KERNEL_BLOCK_KEYS = 512
"""Keys that torch's kernel takes at once: with no more of them, a mask costs nothing."""


def attention_function(recorder: Recorder) -> Callable[..., Tensor]:
    """The attention of packed sequences that goes with a recorder; called as `Attends.attend`."""
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
    """`query [1, H, N, d]`, `key` and `value [1, Hkv, N, d]` to `[1, N, H, d]`.

    Raises:
        StopForward: the recorder wants no more than this layer.
    """
    last = layer == recorder.stop_after
    lengths = recorder.lengths or ()
    at_once, blocks = varlen.is_supported(query), blocked.is_faster(query)
    keys, values, outs, start = [], [], [], 0
    for s, length in enumerate(lengths):
        q, k, v = (part[0, :, start : start + length] for part in (query, key, value))
        start += length
        if recorder.keep_kv:
            recorder.store_kv(s, k, v)
        before = recorder.past_kv[s] if recorder.past_kv is not None else None
        if before is not None:
            k = torch.cat((before[layer].keys.to(k), k), dim=1)
            v = v if last else torch.cat((before[layer].values.to(v), v), dim=1)
        if blocks and (window is None or k.shape[1] <= window):
            outs.append(_attend_in_blocks(recorder, s, layer, q, k, v, scale))
            continue
        if layer in recorder.layers:
            _record(recorder, s, q, k, scale, window)
        if at_once:
            keys.append(k)
            values.append(v)
        elif not last:
            outs.append(_attend_sequence(recorder, q, k, v, scale, window))
    if last:
        raise StopForward
    if at_once:
        return varlen.attend(query[0], keys, values, lengths, scale, window)[None]
    return torch.cat(outs)[None]


def _record(
    recorder: Recorder, s: int, q: Tensor, k: Tensor, scale: float, window: int | None
) -> None:
    """Records the rows of sequence `s`, whose last token is the last of the keys."""
    first, stop = recorder.row_spans[s]
    past = k.shape[1] - q.shape[1]
    looking = q[:, first:stop].float() * scale
    if recorder.record_queries:
        recorder.queries[s].append(looking)
    later = recorder.tail_mask(first + past, stop + past, k.shape[1], window, looking)
    recorder.weights[s].append(softmax_row_groups(looking, k, later, recorder.groups))


def _attend_in_blocks(
    recorder: Recorder, s: int, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float
) -> Tensor:
    """What new tokens see, `[n, H, d]`; rows that end the sequence are recorded on the way."""
    first, stop = recorder.row_spans[s]
    wanted, through = layer in recorder.layers, layer != recorder.stop_after
    few = 0 < stop - first <= blocked.MAX_ROWS
    if wanted and few and stop == q.shape[1] and not recorder.record_queries:
        seen, weights = blocked.attend(q, k, v, scale, stop - first, through)
        recorder.weights[s].append(group_rows_fp32(weights, recorder.groups))
        return seen
    if wanted:
        _record(recorder, s, q, k, scale, None)
    return blocked.attend(q, k, v, scale, 0, through)[0]


def _attend_sequence(
    recorder: Recorder, q: Tensor, k: Tensor, v: Tensor, scale: float, window: int | None
) -> Tensor:
    """What new tokens see, `[n, H, d]`; the kernel is told to be causal wherever that is less work.

    It counts from the first key, so rows that stand for what was kept are put before the others.
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
    """Attention of new tokens over all keys, `[H, n, d]`; causal where there is no mask."""
    return scaled_dot_product_attention(
        q[None],
        k[None],
        v[None],
        attn_mask=mask,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=q.shape[0] != k.shape[0],
    )[0]
