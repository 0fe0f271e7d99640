"""Quest (arXiv 2406.10774, §3.2): pages of keys, ranked by an upper bound on their logits.

Of every page of 16 consecutive keys the smallest and largest value of each channel are stored. For
a query q, Σ_c max(q_c min_c, q_c max_c) is at least the largest logit in the page. The pages with
the highest bounds are read whole. A page's two bounds count as two keys read.

Departures: Quest reads whole pages into attention; here the k best keys of the pages read are
returned, as every selector does. It keeps the first two layers dense, which is the caller's choice.
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

PAGE = 16


class Quest:
    """Reads the pages with the highest upper bounds."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "pages of 16 keys by an upper bound on their best",
        "Quest, 2406.10774",
        "pages read",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor) -> None:
        self._keys = keys
        self._pages = -(-len(keys) // PAGE)
        missing = self._pages * PAGE - len(keys)
        # the last page is filled with its own last key, which changes no bound
        paged = torch.cat((keys, keys[-1:].expand(missing, -1))).view(self._pages, PAGE, -1)
        self._minima, self._maxima = paged.amin(1), paged.amax(1)

    @property
    def efforts(self) -> list[int]:
        """From the fewest pages that hold 100 keys to all pages."""
        return geometric_steps(7, self._pages, 16)

    def search(self, queries: Tensor, k: int, effort: int) -> KeyHits:
        """The best keys of the `effort` pages with the highest bounds."""
        queries = prepare_queries(queries, self._keys, k, effort)
        pages = self.bounds(queries).topk(min(effort, self._pages)).indices
        ids = block_members(pages, PAGE, len(self._keys))
        return best_hits(
            self._keys, queries, ids, k, 2 * self._pages * len(queries) + int((ids >= 0).sum())
        )

    def bounds(self, queries: Tensor) -> Tensor:
        """An upper bound on the largest logit in each page: `[Q, P]`."""
        return queries.clamp_min(0) @ self._maxima.T + queries.clamp_max(0) @ self._minima.T


Selector: SelectorClass = Quest
