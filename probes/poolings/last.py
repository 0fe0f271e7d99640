"""The last token's state of the last layer, of an encoder the [SEP].

Source: Pooling and Attention (Tang & Yang 2024, arXiv 2409.02727, §3): the last token is what
causal embedding models take. Departure: of a text longer than a window, the mean of its windows'
last tokens.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes import pooling
from tamis.probes.folder_registry import EntryInfo


class Last(pooling.Pooling):
    """The last token alone."""

    info: ClassVar[EntryInfo] = EntryInfo("the last token's state", "arXiv 2409.02727")

    def weights(self, mask: Tensor, diagonal: Tensor | None) -> Tensor:
        """1 at the last token that is not padding: `[B, n]`."""
        last = mask.sum(1, keepdim=True) - 1
        return (torch.arange(mask.shape[1], device=mask.device) == last).float()


Pooling = Last
