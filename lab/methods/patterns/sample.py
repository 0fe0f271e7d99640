"""SampleAttention: columns and diagonals of rows sampled everywhere, and a window.

Source: SampleAttention (Zhu et al. 2024, arXiv 2406.15486, §4): exact softmax of sampled rows; in
each direction the fewest blocks whose sum reaches a share α; a window of 8 % beside them.

    rows s, 2s, 3s, ...  ─► mass by column block, mass by diagonal block ─► fewest that reach α

Departures: one row of 20 (the body of the paper was read as summarised by others); α is the same in
both directions and bisected so that the share of blocks is met, where the paper sets .95; the
window takes at most half of the share.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import (
    PatternInfo,
    PromptShape,
    bisect_to_share,
    column_and_slash_masses,
    fewest,
    sampled_weights,
    verticals_and_slashes,
    widest_window,
)

STRIDE = 20
WINDOW = 0.08


class Sample(contract.Pattern):
    """Columns and diagonals by rows from everywhere."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "columns and diagonals of every 20th row, and a window", "arXiv 2406.15486"
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """Decides in every layer from its queries and keys."""
        return _Sight(self.share, shape)


class _Sight(contract.Sight):
    def __init__(self, share: float, shape: PromptShape) -> None:
        self._share, self._shape = share, shape
        at = torch.arange(shape.blocks)
        distance = at[:, None] - at
        none = torch.zeros(shape.blocks, shape.blocks, dtype=torch.bool)
        most = widest_window(none, share / 2, shape.dense_from)
        self._window = most & (distance < max(1, round(WINDOW * shape.blocks)))

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
        """The blocks of each key head at the share."""
        tokens = self._shape.tokens
        rows = torch.arange(min(STRIDE, tokens) - 1, tokens, STRIDE)
        weights = sampled_weights(queries, keys, rows)
        columns, slashes = column_and_slash_masses(weights, rows)

        def made(alpha: float) -> Tensor:
            chosen = verticals_and_slashes(fewest(columns, alpha), fewest(slashes, alpha))
            return chosen | self._window

        return bisect_to_share(made, self._share, self._shape.dense_from, len(keys))


Pattern = Sample
