"""PowerAttention: blocks at distances that are powers of two.

Source: PowerAttention (2025, arXiv 2503.03588, §3.3): every distance up to 2^D is reached in D
layers, one hop for every bit that is 1.

    block i sees j where i - j is 0 or a power of two, or below the window, or j is block 0

Departures: blocks of 64 instead of 256; the window is as wide as the share allows, and at least one
block; no layer is dense; the proxy was not trained with the pattern, which the paper needs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.patterns.streaming import StaticBlocks
from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape, widest_window


class Power(contract.Pattern):
    """Distances that are powers of two, and a window."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "blocks at distances that are powers of two, and a window", "arXiv 2503.03588"
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """The powers of two with as wide a window as the share allows."""
        seen = powers_of_two(shape.blocks)
        return StaticBlocks(widest_window(seen, self.share, shape.dense_from))


def powers_of_two(blocks: int) -> Tensor:
    """Which blocks stand 0 or a power of two before a block: `[B, B]` bool."""
    at = torch.arange(blocks)
    distance = at[:, None] - at
    return (distance >= 0) & ((distance & (distance - 1)) == 0)


Pattern = Power
