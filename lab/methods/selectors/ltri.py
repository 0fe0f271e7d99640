"""Ltri-LLM (arXiv 2412.04757, §3): spans where attention forms triangles, found by vote of heads.

Inside a text, attention forms triangles along the diagonal. A span is as good as the attention in
its triangle exceeds a threshold; the best spans that do not overlap are kept, and what lies between
them becomes spans, too. A span is the root of its length times its mean key; the heads vote for
spans, and the best are read whole. A vector counts as a key read.

    S(x, y) = Σ over x <= j <= i <= y of (A_ij - θ)

Departures: keys stand in for the text's own queries, which are not kept, so A is the mean over
heads of the causal softmax of keys with keys, in pieces of 512; θ is the median of A; chosen
spans have at most 64 keys; a span that overlaps a better one at all is dropped (the paper drops
from an overlap of .3 on); the vector is ours, since the paper's was read as summarised by others.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorInfo, drop_columns_of_none, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
)
from tamis_lab.methods.kv_search.types import KeyHits

PIECE, LONGEST = 512, 64


class Ltri:
    """Reads the spans that the heads vote for."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "spans under triangles of attention, by vote of the heads",
        "Ltri-LLM, 2412.04757",
        "spans read",
        needs="heads",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys = keys
        spans = torch.tensor(list(triangle_spans(keys)), device=keys.device)
        sizes = spans[:, 1] - spans[:, 0]
        owner = torch.arange(len(spans), device=keys.device).repeat_interleave(sizes)
        sums = keys.new_zeros(len(keys), len(spans), keys.shape[2]).index_add(1, owner, keys)
        self._vectors = sums / sizes.sqrt()[:, None]
        place = torch.arange(int(sizes.max()), device=keys.device)
        self._members = torch.where(place < sizes[:, None], spans[:, :1] + place, -1)
        self.efforts = geometric_steps(1, len(spans), 16)

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys of the `effort` spans with most votes for each row."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, Q, _ = queries.shape
        votes = (queries @ self._vectors.mT).softmax(2).sum(0)
        best = votes.topk(min(effort, len(self._members))).indices
        ids = drop_columns_of_none(self._members[best].flatten(1))
        read = S * (Q * len(self._members) + int((ids >= 0).sum()))
        return best_hits_of_heads(self._keys, queries, [ids] * S, k, read)


def triangle_spans(keys: Tensor) -> Iterator[tuple[int, int]]:
    """Half-open spans of keys, ascending, which cover all of `[S, N, D]` keys."""
    for start in range(0, keys.shape[1], PIECE):
        piece = keys[:, start : start + PIECE]
        logits = piece @ piece.mT * piece.shape[2] ** -0.5
        later = logits.new_ones(logits.shape[1:], dtype=torch.bool).triu(1)
        # spans are sorted and chosen one by one, which is work for the CPU
        attention = logits.masked_fill(later, -torch.inf).softmax(2).mean(0).cpu()
        later = later.cpu()
        threshold = float(attention[~later].median())
        for a, b in disjoint_spans(span_scores(attention, threshold)):
            yield start + a, start + b


def span_scores(attention: Tensor, threshold: float) -> Tensor:
    """The score of every span from x to y, both inclusive, -inf where y < x: `[n, n]`.

    Args:
        attention: `[n, n]`, rows of a causal softmax.
    """
    n = len(attention)
    above = (attention - threshold).tril()
    total = torch.nn.functional.pad(above.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x, y = torch.arange(n)[:, None], torch.arange(n)
    # nothing is above the diagonal, so rows x..y of columns x..y are the triangle
    scores = total[y + 1, y + 1] - total[x, y + 1] - total[y + 1, x] + total[x, x]
    return scores.masked_fill(y < x, -torch.inf)


def disjoint_spans(scores: Tensor) -> list[tuple[int, int]]:
    """The best spans that do not overlap, and those between them: half-open, ascending."""
    n = len(scores)
    y = torch.arange(n)
    allowed = (scores > 0) & (y < y[:, None] + LONGEST)
    flat = scores.masked_fill(~allowed, -torch.inf).flatten()
    order = flat.argsort(descending=True, stable=True)[: int(allowed.sum())].tolist()
    taken = bytearray(n)
    found = []
    for at in order:
        first, last = divmod(at, n)
        # spans come best first: one that overlaps another without an end in it holds it whole
        if not (taken[first] or taken[last] or any(taken[first : last + 1])):
            taken[first : last + 1] = b"\1" * (last + 1 - first)
            found.append((first, last + 1))
    edges = sorted({0, n, *(edge for span in found for edge in span)})
    return list(pairwise(edges))


Selector: SharedSelectorClass = Ltri
