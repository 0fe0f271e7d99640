"""A mean in which later tokens count for more, because in a causal model they have seen more.

Source: SGPT (Muennighoff 2022, arXiv 2202.08904, §3.1): w_i = i + 1; compared in Pooling and
Attention (arXiv 2409.02727, §3). Departure: places are counted within a window.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes import pooling
from tamis.probes.folder_registry import EntryInfo


class WeightedMean(pooling.Pooling):
    """The mean weighted by place."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "mean in which later tokens count for more", "arXiv 2202.08904"
    )

    def weights(self, mask: Tensor, diagonal: Tensor | None) -> Tensor:
        """i + 1 for token i: `[B, n]`."""
        return mask * torch.arange(1, mask.shape[1] + 1, device=mask.device).float()


Pooling = WeightedMean
