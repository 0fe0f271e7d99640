"""Value mass: a token counts by its attention times the length of what the head writes for it.

Source: Kobayashi et al. 2020 (arXiv 2004.10102, §3): ‖a[r, j]·f(x_j)‖ with f(x) = x W_V W_O, so

    m[l, h, r, j] = a[l, h, r, j]·n[l, h, j],   n[l, h, j] = ‖W_O^h v_j‖ = √(vᵀ G_h v),
    G_h = W_O^hᵀ W_O^h, once a model

Departures: causal decoders with shared key heads (v_j is that of the head's group); no bias of the
values; the mean over the question's rows is taken of m, the heads are not summed before the norm.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    VisitorFactories,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import ValueNorm, output_grams


class ValueMass(contract.ComparedReading):
    """Attention weighted by the length of transformed values."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "attention times the length of each token's transformed value", "arXiv 2004.10102"
    )

    def setup(self) -> None:
        """Multiplies the output projections once."""
        self._grams = output_grams(self.reader.body)

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The norms of the trunk's values."""
        return {"value_norm": lambda: ValueNorm(self._grams, shape.trunk)}

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The mean of a[r, j]·n[j] over the question's rows: `[L, H, N]`."""
        norms: Tensor = window.sums["value_norm"].result()
        return window.passage_mean(branch) * norms[..., window.shape.passage]


Reading = ValueMass
