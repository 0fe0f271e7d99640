"""Causal attention that multiplies chosen blocks only.

    keys      [ 0 ][ 1 ][ 2 ][ 3 ]
    queries 2 [ x ]      [ x \\ ]      blocks 0 and 2 are gathered, one product, one softmax

For every block of queries and key head, the chosen blocks of keys are gathered and multiplied; the
query heads of a key head share them. Logits and weights have the model's dtype, as those of
`attention.packed`, which runs where nothing is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from tamis.probes.attention.packed import block_attention
from tamis_lab.methods.prefill.contract import BLOCK, causal_blocks, count_blocks


@dataclass(slots=True)
class BlockWeights:
    """The weights of one layer, for a layer that takes them.

    Attributes:
        ids: by block of queries and key head, the columns that were multiplied.
        weights: likewise, `[shared · rows, columns]`.
    """

    ids: list[list[Tensor]] = field(default_factory=list)
    weights: list[list[Tensor]] = field(default_factory=list)


def attend_blocks(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: Tensor,
    segments: Tensor | None = None,
    kept: BlockWeights | None = None,
) -> Tensor:
    """Attention over chosen blocks: `[n, H, d]`.

    Args:
        queries: scaled, `[H, n, d]`. keys, values: `[Hkv, n, d]`, contiguous.
        seen: `[Hkv, B, B]` bool, with the diagonal and nothing above it.
        segments: `[n]`; tokens of different segments do not see each other, -1 sees all.
        kept: is given the weights.
    """
    heads, tokens, size = queries.shape
    kv_heads = len(keys)
    grouped = queries.reshape(kv_heads, -1, tokens, size)
    output = queries.new_empty(tokens, heads, size)
    by_group = output.view(tokens, kv_heads, -1, size)
    for block in range(count_blocks(tokens)):
        rows = slice(block * BLOCK, min(tokens, (block + 1) * BLOCK))
        ids, weights = [], []
        for g in range(kv_heads):
            columns = _columns(seen[g, block], rows.stop)
            logits = grouped[g, :, rows].reshape(-1, size) @ keys[g, columns].T
            _mask(logits, columns, rows, segments)
            ids.append(columns)
            weights.append(logits.softmax(-1))
            attended = (weights[g] @ values[g, columns]).view(-1, rows.stop - rows.start, size)
            by_group[rows, g] = attended.transpose(0, 1)
        if kept is not None:
            kept.ids.append(ids)
            kept.weights.append(weights)
    return output


def attend_dense(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention that leaves nothing out, as the product computes it: `[n, H, d]`."""
    return block_attention(queries, keys, values, 1.0)[0]


def reuse_weights(kept: BlockWeights, values: Tensor, heads: int) -> Tensor:
    """The values of one layer by the weights of another: `[n, H, d]`."""
    kv_heads, tokens, size = values.shape
    output = values.new_empty(tokens, heads, size)
    by_group = output.view(tokens, kv_heads, -1, size)
    for block, (ids, weights) in enumerate(zip(kept.ids, kept.weights, strict=True)):
        rows = slice(block * BLOCK, min(tokens, (block + 1) * BLOCK))
        for g in range(kv_heads):
            attended = weights[g] @ values[g, ids[g]]
            by_group[rows, g] = attended.view(-1, rows.stop - rows.start, size).transpose(0, 1)
    return output


def row_weights(queries: Tensor, keys: Tensor, rows: int, segments: Tensor | None = None) -> Tensor:
    """The weights of the last rows over everything: `[H, rows, n]` in the model's dtype."""
    if segments is None:
        return block_attention(queries[:, -rows:], keys, keys, 1.0, rows, with_output=False)[1]
    heads, tokens, size = queries.shape
    logits = queries[:, -rows:].reshape(len(keys), -1, size) @ keys.mT
    logits = logits.view(heads * rows, tokens)
    _mask(logits, torch.arange(tokens), slice(tokens - rows, tokens), segments)
    return logits.view(heads, rows, tokens).softmax(-1)


def whole(tokens: int, kv_heads: int) -> Tensor:
    """All blocks of a prompt: `[Hkv, B, B]` bool."""
    return causal_blocks(count_blocks(tokens)).expand(kv_heads, -1, -1)


def _columns(blocks: Tensor, stop: int) -> Tensor:
    """The tokens of chosen blocks before `stop`, ascending."""
    ids = (blocks.nonzero()[:, :1] * BLOCK + torch.arange(BLOCK)).flatten()
    return ids[ids < stop]


def _mask(logits: Tensor, columns: Tensor, rows: slice, segments: Tensor | None) -> None:
    """Hides later tokens and other segments: `[shared · rows, columns]`, in place."""
    at = torch.arange(rows.start, rows.stop)
    near = int((columns < rows.start).sum())  # every row sees these
    tail = logits.view(-1, len(at), len(columns))
    tail[..., near:].masked_fill_(columns[near:] > at[:, None], -torch.inf)
    if segments is not None:
        own, other = segments[at][:, None], segments[columns]
        tail.masked_fill_((own != other) & (own >= 0) & (other >= 0), -torch.inf)
