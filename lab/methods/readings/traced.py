"""Traced attention: each head's own last step, followed down to the tokens that fed its keys.

Source: attention rollout (Abnar & Zuidema 2020, arXiv 2005.00928, §3), of which it is our variant:

    t[l, h, j] = mean over the question's rows r of Σ_i a[l, h, r, i]·R_{l-1}[i, j]

with R as in `rollout`. A head of a deep layer reads sentence ends and last tokens of names, whose
states are mixtures of what stood before; tracing gives the mass back to it.

Departures: the last step keeps its heads and layers apart (`[L, H, N]`, as many features as raw
attention); mass on the question's own tokens is not followed; columns of the template's opening are
dropped, see `PathSum`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    VisitorFactories,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import PathSum


class Traced(contract.ComparedReading):
    """Attention of each head, traced back through the layers below."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "each head's attention followed down through the layers below", "after arXiv 2005.00928"
    )

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The running product of rollout."""
        return {"path": lambda: PathSum(shape.trunk, shape.opening, shape.branches)}

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The traced rows: `[L, H, N]`."""
        traced = torch.stack(window.sums["path"].traced[branch])
        return traced[..., window.shape.title :]


Reading = Traced
