"""Streaming: the first block and a window; the baseline that every pattern has to beat.

Source: StreamingLLM (Xiao et al. 2023, arXiv 2309.17453, §3.2): attention sinks and recent tokens.

    block i sees block 0 and the blocks i - w + 1 ... i

Departures: the window is as wide as the share allows; the question's rows see everything.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape, widest_window


class StaticBlocks(contract.Sight):
    """The same blocks in every layer and head."""

    def __init__(self, seen: Tensor) -> None:
        """`seen` is `[B, B]` bool."""
        self._seen = seen

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor:
        """The blocks, for every key head."""
        return self._seen.expand(len(keys), -1, -1)


class Streaming(contract.Pattern):
    """Sinks and a window."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "the first block and a window as wide as the share allows", "arXiv 2309.17453"
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """A band as wide as the share allows."""
        none = torch.zeros(shape.blocks, shape.blocks, dtype=torch.bool)
        return StaticBlocks(widest_window(none, self.share, shape.dense_from))


Pattern = Streaming
