"""TokenSelect (arXiv 2411.02886, §4): one set of keys for all heads, by a vote.

For each question the mean of its rows gives a softmax over keys in every head; the sum over heads
is a key's vote, and the keys with most votes are read in all heads, by all rows. While the mean
stays within a cosine of .9 of the one that last voted, its keys are used again.

Departures: logits are scaled before the softmax; no first or last keys are fixed, since the
template's opening and the question are not among the keys.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tamis_lab.methods.kv_search.contract import SelectorInfo, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
    question_rows,
)
from tamis_lab.methods.kv_search.types import KeyHits

SAME = 0.9


class TokenSelect:
    """Reads the keys that the heads vote for."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "one set of keys for all heads, by vote",
        "TokenSelect, 2411.02886",
        "keys read whole",
        needs="heads",
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys = keys
        self.efforts = geometric_steps(min(100, keys.shape[1]), keys.shape[1])

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best of the `effort` keys with most votes for each row's question."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, N, _ = self._keys.shape
        count, votes = min(max(effort, k), N), 0
        voted: Tensor | None = None
        ids = []
        for rows in question_rows(questions):
            mean = queries[:, rows].mean(1)
            if voted is None or cosine_similarity(mean.flatten(), voted.flatten(), 0) < SAME:
                voted, votes = mean, votes + 1
                chosen = self.votes(mean).topk(count).indices
            ids.append(chosen.expand(rows.stop - rows.start, -1))
        read = S * (votes * N + queries.shape[1] * count)
        return best_hits_of_heads(self._keys, queries, [torch.cat(ids)] * S, k, read)

    def votes(self, queries: Tensor) -> Tensor:
        """The sum over heads of the softmax of `[S, D]` queries: `[N]`."""
        return torch.einsum("sd,snd->sn", queries, self._keys).softmax(1).sum(0)


Selector: SharedSelectorClass = TokenSelect
