"""Attention over one packed row: each sequence attends to itself and to its cached keys.

keys of a sequence   [0, past) cached   [past, past + n) its own new tokens

The sequences are computed one after the other, without padding: what a CPU runs. Other devices
compute them together, see `batched`.

Where it is faster, a sequence is computed in blocks of rows: two matrix products and a softmax that
stay in cache.

    keys     0 ........ past ..... past + stop
    block 0  [used used used used \\         ]
    block 1  [used used used used used used \\]

On a CPU that multiplies bf16 without tiles (AVX-512 BF16), torch's fused kernel reaches an eighth
of the speed of a plain product. Here the logits of one block, at most `BLOCK_WEIGHTS`, are
computed, turned into weights and used before the next block's; most of what is above the diagonal
is never computed. Logits and weights are rounded to bf16, as transformers' eager attention rounds
them; sums inside a product and a softmax are fp32. Figures:
lab/log/speed.md#2026-11-25-attention-in-blocks-of-rows-and-how-long-threads-spin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.attention.linear_kernels import can_fuse, has_tiles
from tamis.probes.attention.recorder import (
    AttentionInput,
    Recorder,
    StopForward,
    group_rows_fp32,
    softmax_row_groups,
)

KERNEL_BLOCK_KEYS = 512
"""Keys that torch's kernel processes at once: up to this many, a mask costs nothing."""


def attention_function(recorder: Recorder) -> Callable[[AttentionInput], Tensor]:
    """The attention to run under a recorder; called as `CustomAttention.attend`."""
    return (
        recorder.custom_attention.attend if recorder.custom_attention else partial(attend, recorder)
    )


def attend(recorder: Recorder, given: AttentionInput) -> Tensor:
    """Attention of `query [1, H, N, d]` to `key` and `value [1, Hkv, N, d]`: `[1, N, H, d]`.

    Raises:
        StopForward: this is the last layer that the recorder needs.
    """
    layer, query, key, value, scale, window = given
    last = layer == recorder.stop_after
    lengths = recorder.lengths or ()
    blocks = blocks_are_faster(query)
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
    few = 0 < stop - first <= MAX_ROWS
    if record and few and stop == q.shape[1] and not recorder.record_queries:
        output, weights = block_attention(q, k, v, scale, stop - first, with_output)
        recorder.weights[s].append(
            group_rows_fp32(weights, recorder.groups, recorder.sentences_of(s))
        )
        return output
    if record:
        _record(recorder, s, q, k, scale, None)
    return block_attention(q, k, v, scale, 0, with_output)[0]


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


BLOCK_WEIGHTS = 1 << 19
"""Logits of one block, all heads together: in bf16 about a core's second-level cache."""

MAX_ROWS, _MIN_ROWS = 128, 32


_HAS_TILES = has_tiles()
"""Which torch's own kernel uses well."""


def blocks_are_faster(query: Tensor) -> bool:
    """Whether attention of these queries is faster in blocks of rows."""
    return can_fuse(query) and not _HAS_TILES


def block_attention(
    query: Tensor, key: Tensor, value: Tensor, scale: float, rows: int = 0, with_output: bool = True
) -> tuple[Tensor, Tensor]:
    """Attention of the last n tokens of a sequence to all N, and the weights of the last rows.

    Args:
        query: `[H, n, d]` of the last n tokens.
        key, value: `[Hkv, N, d]` of all N tokens.
        rows: for how many of the last tokens the weights are returned.
        with_output: whether the output is computed; without it only the weights are.

    Returns:
        The output `[n, H, d]`, empty unless `with_output`; softmax weights `[H, rows, N]`.
    """
    H, n, d = query.shape
    kv_heads, N, _ = key.shape
    past, shared = N - n, H // kv_heads
    columns, value = key.transpose(1, 2).contiguous(), value.contiguous()
    query = query.reshape(kv_heads, shared, n, d)
    output = query.new_empty(n if with_output else 0, H, d)
    by_head = output.view(-1, kv_heads, shared, d).permute(1, 2, 0, 3)
    weights = query.new_empty(H, 0, N)
    for start, stop in (*_blocks(n - rows if with_output else 0, H * N), (n - rows, n)):
        if start == stop:
            continue
        keys = past + stop
        block = query[:, :, start:stop].reshape(kv_heads, -1, d)
        weights = _block_softmax(block, columns[..., :keys], stop - start, scale)
        if with_output:
            averaged = torch.bmm(weights, value[:, :keys])
            by_head[:, :, start:stop] = averaged.view(kv_heads, shared, -1, d)
    return output, weights.view(H, -1, N) if rows else weights[:0].view(H, 0, N)


def _block_softmax(query: Tensor, columns: Tensor, rows: int, scale: float) -> Tensor:
    """A block's weights: `[Hkv, shared·rows, d]` and keys `[Hkv, d, K]` to `[Hkv, shared·rows, K]`.

    The rows belong to the last of the K tokens, and none attends to a token after its own.
    """
    zero = query[:1, :1, :1]  # the summand that beta=0 ignores
    logits = torch.baddbmm(zero, query, columns, beta=0, alpha=scale)
    by_row = logits.view(logits.shape[0], -1, rows, logits.shape[-1])
    by_row[..., by_row.shape[-1] - rows :].add_(_causal_bias(rows, query.dtype, query.device))
    return logits.softmax(-1)


def _blocks(rows: int, weights: int) -> list[tuple[int, int]]:
    """Half-open spans of nearly equal size that partition `rows`; a row has `weights` logits."""
    max_rows = min(MAX_ROWS, max(_MIN_ROWS, BLOCK_WEIGHTS // weights))
    count = -(-rows // max_rows)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


@lru_cache(maxsize=2 * MAX_ROWS)
def _causal_bias(rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """-inf where the column's token comes after the row's, else 0: `[rows, rows]`."""
    return torch.full((rows, rows), -math.inf, dtype=dtype, device=device).triu(1)
