"""ZeroTuning: the first token's weight is multiplied by γ, and every row normalised again.

Source: Han et al. 2025 (arXiv 2505.11739, §3):

    a'_0 = γ·a_0 / D,   a'_i = a_i / D,   D = 1 + (γ - 1)·a_0

γ < 1 flattens attention onto the text. `form="pass"` changes every row of every layer, so that
deeper layers see it; `form="reading"` changes the question's rows after the pass, which multiplies
all tokens of a row alike: windows move against each other, units of one window hardly.

Departures: all heads (the paper sorts them into those whose accuracy rises and those whose falls,
and tunes γ on labels or by the least entropy of the output).
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from tamis.compressors.options import option
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import EntryInfo, WindowAttention, WindowShape
from tamis_lab.methods.window_attention.visitor import PassEdit


class Zero(contract.ComparedReading):
    """Attention with the first token's weight scaled."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "the first token's weight times γ, in the pass or in the reading", "arXiv 2505.11739"
    )

    gamma: float = option(0.5, "The factor of the first token's weight.", gt=0)
    form: Literal["pass", "reading"] = option(
        "pass", "Whether the pass is changed, or what is read of it."
    )

    def edit(self, shape: WindowShape) -> PassEdit | None:
        """The scaling of every row, in the form of the paper."""
        return ScaledFirst(self.gamma) if self.form == "pass" else None

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The mean of the scaled rows: `[L, H, N]`."""
        if self.form == "pass":
            return window.passage_mean(branch)
        asked = window.branches[branch]
        rows = scale_first(asked.weights[:, :, asked.first_row :], self.gamma)
        return rows.mean(2)[..., window.shape.passage]


class ScaledFirst(PassEdit):
    """Scales the first token's weight in all rows."""

    def __init__(self, gamma: float) -> None:
        """The factor of the first token's weight."""
        self.gamma = gamma

    def weights(self, layer: int, weights: Tensor, first: int) -> Tensor:
        """The scaled rows."""
        return scale_first(weights, self.gamma)


def scale_first(rows: Tensor, gamma: float) -> Tensor:
    """Rows `[..., T]` whose first weight is multiplied by `gamma`; they sum to 1 as before."""
    scaled = rows.clone()
    scaled[..., 0] *= gamma
    total = 1 + (gamma - 1) * rows[..., :1]
    return scaled / total


Reading = Zero
