"""Parallel encoding: passages are read apart behind one opening; the question reads the best.

Source: Attention Entropy is a Key Factor (Zhang et al. 2024, arXiv 2412.16545, §4): pieces encoded
in parallel, with a shared sink before each, and a selection of pieces by the question's rows.

    a passage sees the opening and itself, at positions right behind the opening
    passage score = mean over heads and rows of the sum of its five largest weights
    the question's rows weigh the values of the best passages alone, renormalised

Departures: the share says how many passages the question reads (2 of 20 in the paper); rows are
recorded before passages are left out, since a passage without weight could not be scored. The
question's positions are behind the longest passage. The entropy of the question's rows, by which
the paper explains what is lost, is not computed, and the paper's three steps (apart, with the
shared opening, with the selection) are one.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.attention_math import normalise_rows
from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape

LARGEST = 5


class Parallel(contract.Pattern):
    """Passages apart, the question over the best of them."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "passages apart behind one opening; the question reads the best of them",
        "arXiv 2412.16545",
        share="passages that the question reads",
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """Everything of it follows from the passages."""
        return _Sight(self.share, shape)


class _Sight(contract.Sight):
    def __init__(self, share: float, shape: PromptShape) -> None:
        self._shape, self._spans = shape, shape.passages.tolist()
        self._count = max(1, math.ceil(share * len(self._spans)))
        self._segments = segments_of(shape)

    def positions(self) -> Tensor:
        """Every passage begins behind the opening, the question behind the longest passage."""
        found = torch.arange(self._shape.tokens)
        if not self._spans:
            return found
        first = self._spans[0][0]
        for start, stop in self._spans:
            found[start:stop] -= start - first
        longest = max(stop - start for start, stop in self._spans)
        found[self._spans[-1][1] :] -= self._spans[-1][1] - first - longest
        return found

    def segments(self) -> Tensor:
        """A passage is a segment; opening and question see and are seen by all."""
        return self._segments

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
        """Blocks that share a passage."""
        blocks, size = self._shape.blocks, contract.BLOCK
        low = torch.full((blocks,), self._shape.tokens)
        high = torch.zeros(blocks, dtype=torch.long)
        for start, stop in self._spans:
            first, last = start // size, (stop - 1) // size
            low[first : last + 1] = low[first : last + 1].clamp_max(first)
            high[first : last + 1] = high[first : last + 1].clamp_min(last)
        at = torch.arange(blocks)
        seen = (at >= low[:, None]) & (at <= high[:, None])
        return seen.expand(len(keys), -1, -1)

    def edit_rows(self, layer: int, weights: Tensor) -> Tensor | None:
        """The rows without all but the best passages, renormalised."""
        if self._count >= len(self._spans):
            return None
        scores = passage_scores(weights, self._spans)
        kept = weights.clone()
        for p in scores.argsort(descending=True)[self._count :].tolist():
            start, stop = self._spans[p]
            kept[..., start:stop] = 0
        return normalise_rows(kept)


def segments_of(shape: PromptShape) -> Tensor:
    """The number of each token's passage, -1 outside of all: `[n]`."""
    found = torch.full((shape.tokens,), -1)
    for p, (start, stop) in enumerate(shape.passages.tolist()):
        found[start:stop] = p
    return found


def passage_scores(weights: Tensor, spans: list[list[int]]) -> Tensor:
    """The mean over heads and rows of each passage's five largest weights: `[P]`."""
    sums = [
        weights[..., a:b].float().topk(min(LARGEST, b - a)).values.sum(-1).mean() for a, b in spans
    ]
    return torch.stack(sums)


Pattern = Parallel
