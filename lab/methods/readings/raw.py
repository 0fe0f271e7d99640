"""Raw attention: the mean of the question's rows; what every other reading is compared with.

Features are those of the default method: log mean and log max of each head over a unit's tokens.
With `less_empty` it is calibrated as by ICR (arXiv 2410.02642, §3); departure: differences are
taken for each unit and head in logarithms (features) or of means over heads (scores), and no token
is masked out. With `last_row` the prompt's last row is read alone, as Sentinel does (arXiv
2505.23277, §3), with all else as it is here: template, windows, features and probe.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from tamis.compressors.options import option
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import EntryInfo, WindowAttention


class Raw(contract.ComparedReading):
    """The mean of the question's rows."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "mean of the question's rows; less_empty: less those of N/A", "own; ICR, arXiv 2410.02642"
    )

    last_row: bool = option(False, "The prompt's last row alone, in place of the rows' mean.")

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The rows' mean, or the last row: `[L, H, N]`."""
        if self.last_row:
            return window.branches[branch].weights[:, :, -1, window.shape.passage]
        return window.passage_mean(branch)


Reading = Raw
