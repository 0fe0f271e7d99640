"""What a pattern of sparse prefill decides, and what it is told of a prompt.

    prompt    opening | passages | question          n tokens, the last `rows` are the question's
    blocks    64 tokens; block i of queries sees some blocks j <= i of keys
    Pattern.start ─► Sight of one prompt
           ─ Sight.blocks   which blocks of keys a block of queries is multiplied with
           ─ Sight.onward   which tokens go on to the next layer
           ─ Sight.reuse    the layer whose weights are taken in place of the layer's own

Whatever a pattern says, a block of queries sees itself and block 0, nothing after itself, and the
question's rows see everything. A file of `patterns/` subclasses `Pattern`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.registry import PatternInfo as PatternInfo

BLOCK = 64
"""Tokens in a block."""


@dataclass(frozen=True, slots=True)
class PromptShape:
    """One prompt as patterns see it.

    Attributes:
        tokens: in all. rows: how many of the last are the question's. layers: that run.
        passages, units: half-open spans of tokens, ascending, disjoint: `[P, 2]`, `[U, 2]` int64.
    """

    tokens: int
    rows: int
    layers: int
    passages: Tensor
    units: Tensor

    @property
    def blocks(self) -> int:
        """The number of blocks; the last may be shorter."""
        return count_blocks(self.tokens)

    @property
    def dense_from(self) -> int:
        """The first block with a row of the question."""
        return (self.tokens - self.rows) // BLOCK

    @property
    def context(self) -> int:
        """The number of tokens before the question's rows."""
        return self.tokens - self.rows


class Sight:
    """What one prompt's pass leaves out; this one leaves nothing out."""

    def positions(self) -> Tensor | None:
        """The position of each token, `[n]` int64; None for 0, 1, 2, ..."""
        return None

    def segments(self) -> Tensor | None:
        """Tokens of different segments do not see each other, `[n]` int64; -1 sees and is seen by
        all. None for one segment."""
        return None

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        """Which blocks are multiplied: `[H or Hkv, Bq, Bk]` bool; None for all.

        Args:
            queries: `[H, n, d]`, scaled and rotated. keys: `[Hkv, n, d]`. Both of the n tokens that
                have come so far, in the model's dtype.
        """
        return None

    def onward(self, layer: int, weights: Tensor) -> Tensor | None:
        """Which of the n tokens that have come so far go on: ascending `[m]` int64; None for all.

        Args:
            weights: of the question's rows, `[H, R, n]`.
        """
        return None

    def reuse(self, layer: int) -> int | None:
        """An earlier layer whose weights this one takes; None for its own."""
        return None

    def edit_rows(self, layer: int, weights: Tensor) -> Tensor | None:
        """The question's rows, `[H, R, n]`, as they weigh values; None for as they are."""
        return None


class Pattern:
    """Decides which parts of a prompt are left out, at a share of the dense pass."""

    info: ClassVar[PatternInfo]

    def __init__(self, share: float = 0.25, similarity: Tensor | None = None) -> None:
        """A pattern at a share.

        Args:
            share: above 0, at most 1: what is computed, as a share of what a dense pass computes;
                `info.share` says of what. 1 is the dense pass.
            similarity: of the model's layers, `[L, L]`, for patterns that need it.

        Raises:
            BadInput: another share, or no similarity where it is needed.
        """
        if not 0 < share <= 1:
            raise BadInput(f"share is {share:g}; give one above 0 and at most 1")
        if self.info.needs_similarity and similarity is None:
            raise BadInput(
                f"{type(self).__name__} chooses layers by their similarity; measure it first "
                "(tamis lab bench prefill does)"
            )
        self.share, self.similarity = share, similarity

    def start(self, shape: PromptShape) -> Sight:
        """The sight of one prompt."""
        raise NotImplementedError


def count_blocks(tokens: int) -> int:
    """The number of blocks that so many tokens fill."""
    return -(-tokens // BLOCK)


def causal_blocks(blocks: int) -> Tensor:
    """All blocks on and below the diagonal: `[B, B]` bool."""
    return torch.ones(blocks, blocks, dtype=torch.bool).tril()


def with_forced(seen: Tensor, dense_from: int) -> Tensor:
    """Blocks with those that every pattern multiplies, and none above the diagonal.

    Args:
        seen: `[..., B, B]` bool. dense_from: the first block with a row of the question.
    """
    forced = torch.eye(seen.shape[-1], dtype=torch.bool)
    forced[:, 0] = True
    forced[dense_from:] = True
    return (seen | forced) & causal_blocks(seen.shape[-1])


def block_density(seen: Tensor, dense_from: int) -> float:
    """The share of blocks on and below the diagonal that are multiplied, forced ones included."""
    blocks = seen.shape[-1]
    whole = blocks * (blocks + 1) / 2 * max(1, seen[..., 0, 0].numel())
    return float(with_forced(seen, dense_from).sum()) / whole


def group_heads(seen: Tensor, kv_heads: int) -> Tensor:
    """The union over the query heads of each key head: `[H, Bq, Bk]` to `[Hkv, Bq, Bk]` bool."""
    return seen.view(kv_heads, -1, *seen.shape[1:]).any(1)


def pool_blocks(states: Tensor) -> Tensor:
    """The mean of each block of `[heads, n, d]`, in fp32: `[heads, B, d]`."""
    return torch.stack([part.float().mean(1) for part in torch.split(states, BLOCK, 1)], 1)


def share_keys(keys: Tensor, heads: int) -> Tensor:
    """Key states repeated for the query heads that share them: `[Hkv, ...]` to `[H, ...]`."""
    return keys.repeat_interleave(heads // len(keys), 0)


def sampled_weights(queries: Tensor, keys: Tensor, rows: Tensor) -> Tensor:
    """The exact softmax of some rows: `[H, S, n]` fp32.

    Args:
        queries: scaled, `[H, n, d]`. keys: `[Hkv, n, d]`. rows: positions, `[S]`.
    """
    picked = queries[:, rows].float()
    grouped = picked.reshape(len(keys), -1, picked.shape[-1])
    logits = (grouped @ keys.float().mT).view(len(queries), len(rows), -1)
    later = torch.arange(keys.shape[1]) > rows[:, None]
    return logits.masked_fill_(later, -torch.inf).softmax(-1)


def column_and_slash_masses(weights: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mass by block of columns and by block of distances, mean over rows: each `[H, B]`.

    Args:
        weights: exact rows `[H, S, n]`. rows: their positions, `[S]`.
    """
    heads, _, tokens = weights.shape
    blocks = count_blocks(tokens)
    columns = torch.zeros(heads, blocks).index_add(
        1, torch.arange(tokens) // BLOCK, weights.mean(1)
    )
    distance = (rows[:, None] - torch.arange(tokens)).clamp_min(0) // BLOCK
    slashes = torch.zeros(heads, blocks).index_add(
        1, distance.flatten(), weights.flatten(1) / len(rows)
    )
    return columns, slashes


def fewest(masses: Tensor, target: float) -> Tensor:
    """The fewest entries of each row whose sum reaches a share of the row's: `[..., B]` bool."""
    best = masses.sort(-1, descending=True)
    before = best.values.cumsum(-1) - best.values
    wanted = before < target * masses.sum(-1, keepdim=True) * (1 - 1e-6)
    return torch.zeros_like(wanted).scatter(-1, best.indices, wanted)


def verticals_and_slashes(columns: Tensor, slashes: Tensor) -> Tensor:
    """Blocks in chosen columns, or at chosen distances from the diagonal: `[H, B, B]` bool.

    Args:
        columns, slashes: which are chosen, `[H, B]` bool.
    """
    blocks = torch.arange(columns.shape[-1])
    distance = (blocks[:, None] - blocks).clamp_min(0)
    return columns[:, None, :] | slashes[:, distance]


def bisect_to_share(
    made: Callable[[float], Tensor], share: float, dense_from: int, kv_heads: int
) -> Tensor:
    """The blocks at the highest threshold whose density is at most a share: `[Hkv, B, B]`.

    Args:
        made: from a threshold in [0, 1] to `[H, B, B]`; more with a higher one.
    """
    whole = group_heads(made(1.0), kv_heads)
    if share >= 1:
        return torch.ones_like(whole)
    if block_density(whole, dense_from) <= share:
        return whole
    low, high, found = 0.0, 1.0, group_heads(made(0.0), kv_heads)
    for _ in range(8):
        middle = (low + high) / 2
        tried = group_heads(made(middle), kv_heads)
        if block_density(tried, dense_from) <= share:
            low, found = middle, tried
        else:
            high = middle
    return found


def widest_window(base: Tensor, share: float, dense_from: int) -> Tensor:
    """Some blocks with the widest band below the diagonal that a share allows: `[B, B]` bool."""
    at = torch.arange(len(base))
    distance = at[:, None] - at
    low, high = 1, len(base)
    while low < high:
        width = (low + high + 1) // 2
        if block_density(base | (distance < width), dense_from) <= share:
            low = width
        else:
            high = width - 1
    return (base | (distance < low)) & (distance >= 0)
