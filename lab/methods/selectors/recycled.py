"""Recycled Attention (arXiv 2411.05787, §3): most rows read only what an earlier row attended to.

Every eighth row of a question reads all keys, and the rows up to the next such row read the keys
with its largest logits.

Departures: the rows of a question stand for the steps of decoding, where the stride is 50; the
variant that reads all keys wherever the query has moved away from the last full row's is left out;
nothing is decoded, so no new token joins the keys.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorInfo, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
    question_rows,
)
from tamis_lab.methods.kv_search.types import KeyHits

STRIDE = 8


class Recycled:
    """Reads all keys in every eighth row, and that row's best keys in the others."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "the best keys of every eighth row",
        "Recycled Attention, 2411.05787",
        "keys read",
        needs="rows",
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys = keys
        self.efforts = geometric_steps(min(100, keys.shape[1]), keys.shape[1])

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best of the `effort` keys that the last full row attended to most."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, N, _ = self._keys.shape
        count, source = min(max(effort, k), N), full_rows(questions, STRIDE)
        full, owner = torch.unique(source, return_inverse=True)
        pairs = zip(self._keys, queries, strict=True)
        ids = [(rows[full] @ keys.T).topk(count).indices[owner] for keys, rows in pairs]
        read = S * (len(full) * N + (len(source) - len(full)) * count)
        return best_hits_of_heads(self._keys, queries, ids, k, read)


def full_rows(questions: Tensor, stride: int) -> Tensor:
    """The row that each row takes its keys from: every stride-th of its question, `[Q]`."""
    parts = [
        torch.arange(rows.stop - rows.start) // stride * stride + rows.start
        for rows in question_rows(questions)
    ]
    return torch.cat(parts)


Selector: SharedSelectorClass = Recycled
