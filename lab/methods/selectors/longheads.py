"""LongHeads (arXiv 2402.10685, §3): chunks of keys, ranked by an attention-weighted mean key.

In each chunk of 64 keys every key attends to the chunk's keys; the mean of what they read is the
query that weighs the keys into one vector. Chunks rank by query times that vector; the best are
read whole, the first and the last always. A vector counts as a key read.

Departures: chunks of 64 instead of 256; keys stand in for the chunk's own queries, which are not
kept; keys and queries are taken after rotary positions; the last chunk alone is forced at the end,
where the paper forces two. The query lives in the space of values, as published.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorInfo, block_members, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
)
from tamis_lab.methods.kv_search.types import KeyHits

CHUNK = 64


class LongHeads:
    """Reads the chunks with the best summary vectors."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "chunks of 64 keys by an attention-weighted mean",
        "LongHeads, 2402.10685",
        "chunks read",
        needs="values",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys = keys
        parts = zip(torch.split(keys, CHUNK, 1), torch.split(setting.values, CHUNK, 1), strict=True)
        self._summaries = torch.stack([summarise_chunk(*part) for part in parts], 1)
        chunks = self._summaries.shape[1]
        self.efforts = geometric_steps(min(2, chunks), chunks, 16)

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys of the `effort` best chunks, the first and the last among them."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, N, _ = self._keys.shape
        chunks = self._summaries.shape[1]
        scores = queries @ self._summaries.mT
        scores[..., [0, -1]] = torch.inf
        count = min(max(effort, 2), chunks)
        best = scores.topk(count).indices
        ids = [block_members(head, CHUNK, N) for head in best]
        read = S * queries.shape[1] * chunks + sum(int((own >= 0).sum()) for own in ids)
        return best_hits_of_heads(self._keys, queries, ids, k, read)


def summarise_chunk(keys: Tensor, values: Tensor) -> Tensor:
    """The vectors of one chunk of several heads: `[S, n, d]` keys and values to `[S, d]`."""
    scale = keys.shape[2] ** -0.5
    attended = (keys @ keys.mT * scale).softmax(2) @ values
    weights = (keys @ attended.mean(1, keepdim=True).mT * scale).softmax(1)
    summaries: Tensor = (weights * keys).sum(1)
    return summaries


Selector: SharedSelectorClass = LongHeads
