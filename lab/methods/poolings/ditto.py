"""Ditto: tokens weigh as much as one head attends to them from themselves.

Source: Chen et al. 2023 (arXiv 2305.10786, §3):

    w_i = A[l, h][i, i],   e = Σ w_i (x_i of the first layer + x_i of the last)/2 / Σ w_i

with the head chosen on labelled pairs; for Sentence-BERT 2-6, layer and head counted from 0.

Departures: that head is taken as it is for all-MiniLM-L6-v2, in models with fewer layers or heads
the last of them. The encoders of tamis attend in both directions, as the paper's do: nothing here
corrects the diagonal of a causal model, which falls with the place.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis.probes import pooling
from tamis.probes.folder_registry import EntryInfo

HEAD = (2, 6)


class Ditto(pooling.Pooling):
    """The mean weighted by the diagonal of one head."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "mean weighted by a head's attention of each token to itself", "arXiv 2305.10786"
    )

    def layers(self, count: int) -> tuple[int, ...]:
        """The first and the last layer."""
        return (1, count)

    def head(self, layers: int, heads: int) -> tuple[int, int] | None:
        """The published head of Sentence-BERT, or the last there is before it."""
        return min(HEAD[0], layers - 1), min(HEAD[1], heads - 1)

    def weights(self, mask: Tensor, diagonal: Tensor | None) -> Tensor:
        """The diagonal: `[B, n]`."""
        assert diagonal is not None
        return mask * diagonal


Pooling = Ditto
