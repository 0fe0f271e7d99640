"""Round Attention (arXiv 2502.15294, §3): passages chosen in the lowest layer, read in the others.

The heads of the lowest layer read all keys. A passage's score is the attention that all rows of a
question pay to its keys there, mean over heads and rows; the other layers read only the passages
with the best scores.

Departures: passages stand for the rounds of a dialogue; the number of passages is the effort, where
the paper takes as many as hold a share of the attention.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorInfo, drop_columns_of_none, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
    question_rows,
)
from tamis_lab.methods.kv_search.types import KeyHits


class Round:
    """Reads the passages that the lowest layer attends to most."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "passages by the attention of the lowest layer",
        "Round Attention, 2502.15294",
        "passages read",
        needs="layers",
        reads_blocks=True,
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys, passages = keys, setting.passages.to(keys.device)
        self._low = sum(layer == setting.layers[0] for layer in setting.layers)
        sizes = passages[:, 1] - passages[:, 0]
        self._owner = torch.arange(len(passages), device=keys.device).repeat_interleave(sizes)
        place = torch.arange(int(sizes.max()), device=keys.device)
        self._members = torch.where(place < sizes[:, None], passages[:, :1] + place, -1)
        self.efforts = geometric_steps(1, len(passages), 16)

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys of all in the lowest layer, of the best `effort` passages in others."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, N, _ = self._keys.shape
        chosen = torch.cat(
            [
                self.passage_scores(queries[: self._low, rows])
                .topk(min(effort, len(self._members)))
                .indices.expand(rows.stop - rows.start, -1)
                for rows in question_rows(questions)
            ]
        )
        ids = drop_columns_of_none(self._members[chosen].flatten(1))
        whole = torch.arange(N, device=ids.device).expand(len(ids), -1)
        read = self._low * whole.numel() + (S - self._low) * int((ids >= 0).sum())
        candidates = [whole] * self._low + [ids] * (S - self._low)
        return best_hits_of_heads(self._keys, queries, candidates, k, read)

    def passage_scores(self, queries: Tensor) -> Tensor:
        """The attention that `[low, R, D]` rows pay to each passage, mean over heads and rows."""
        attention = (queries @ self._keys[: self._low].mT).softmax(2).mean((0, 1))
        return attention.new_zeros(len(self._members)).index_add(0, self._owner, attention)


Selector: SharedSelectorClass = Round
