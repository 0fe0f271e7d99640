"""MoBA's gate (arXiv 2502.13189, §2.2): blocks of keys, ranked by their mean key.

Blocks of 64 consecutive keys rank by query times mean key, and the best are read whole. A mean
counts as a key read.

Departures: blocks of 64 instead of 512 and more, since a passage is no longer than that; no block
is the query's own, since questions are not among the keys; the proxy was not trained with the
gate, which the authors call necessary.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import (
    SelectorClass,
    SelectorInfo,
    best_hits,
    block_members,
    geometric_steps,
    prepare_queries,
)
from tamis_lab.methods.kv_search.types import KeyHits

BLOCK = 64


class Moba:
    """Reads the blocks with the best mean keys."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "blocks of 64 keys by their mean", "MoBA, 2502.13189", "blocks read", reads_blocks=True
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys
        self._means = torch.stack([block.mean(0) for block in torch.split(keys, BLOCK)])

    @property
    def efforts(self) -> list[int]:
        """From the fewest blocks that hold 100 keys to all blocks."""
        return geometric_steps(2, len(self._means), 16)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys of the `effort` blocks with the best mean keys."""
        queries = prepare_queries(queries, self._keys, k, effort)
        blocks = self.gates(queries).topk(min(effort, len(self._means))).indices
        ids = block_members(blocks, BLOCK, len(self._keys))
        read = len(queries) * len(self._means) + int((ids >= 0).sum())
        return best_hits(self._keys, queries, ids, k, read)

    def gates(self, queries: Tensor) -> Tensor:
        """The mean logit of each block: `[Q, blocks]`."""
        return queries @ self._means.T


Selector: SelectorClass = Moba
