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

from typing import Any, ClassVar

from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import EntryInfo, WindowAttention, WindowShape
from tamis_lab.methods.window_attention.visitor import PassEdit

FORMS = ("pass", "reading")


class Zero(contract.Reading):
    """Attention with the first token's weight scaled."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "the first token's weight times γ, in the pass or in the reading", "arXiv 2505.11739"
    )

    def __init__(
        self, reader: Any, gamma: float = 0.5, form: str = "pass", less_empty: bool = False
    ) -> None:
        """A reading by one proxy.

        Raises:
            BadInput: gamma is not above 0, or there is no such form.
        """
        super().__init__(reader, less_empty)
        if not gamma > 0 or form not in FORMS:
            raise BadInput(
                f"gamma is {gamma} and form {form!r}; give a gamma above 0, and pass or reading"
            )
        self.gamma, self.form = gamma, form

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
