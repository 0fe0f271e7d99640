"""Star Attention: parts of a prompt are read apart behind an anchor, the question reads them all.

Source: Star Attention (Acharya et al. 2024, arXiv 2411.17116, §2): the context is cut into equal
parts; from the second on each is read behind the first one, the anchor, at true positions; the
anchor's keys are then dropped, so that the question meets each token once.

    part p sees itself and part 0; the question's rows see everything

An anchor is read alike before every part, because nothing before it changes it: a mask says the
same. Departure: there are as many parts as bring the blocks to the share, four in the paper.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.patterns.streaming import StaticBlocks
from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape, block_density


class Star(contract.Pattern):
    """Equal parts behind the first one."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "equal parts, each behind the first; the question sees all", "arXiv 2411.17116"
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """The fewest parts that meet the share."""
        for parts in range(1, shape.blocks + 1):
            seen = parts_behind_anchor(shape.blocks, parts)
            if block_density(seen, shape.dense_from) <= self.share:
                break
        return StaticBlocks(seen)


def parts_behind_anchor(blocks: int, parts: int) -> Tensor:
    """Which blocks are in a block's own part, or in the first: `[B, B]` bool."""
    part = torch.arange(blocks) * parts // blocks
    return (part[:, None] == part) | (part == 0)


Pattern = Star
