"""Attention calibration: tokens that all rows attend to are damped, the others take their mass.

Source: ACT (Yu et al. 2024, arXiv 2406.15765, §3 and §4), per layer and head:

    c_j = Σ_{i ≥ j} a[i, j] / (T - j)                 mean over the rows that can see j
    S   = {j ≥ 1 : c_j > α}, α = .1                   the first token is kept as it is
    a'_j = β·a_j (j ∈ S), β = .4;   a'_j = a_j·(1 + (1 - β)·Σ_S a / Σ_{k ∉ S} a_k) (j ∉ S)

Departures: the question's rows are changed, the pass is not (the paper changes the pass, of heads
that raise accuracy when they are calibrated alone, from layer 2 on); all heads; a token that fewer
than 8 rows can see is never a sink, its mean being over too few.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from tamis.compressors.options import option
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    VisitorFactories,
    WindowAttention,
    WindowShape,
)
from tamis_lab.methods.window_attention.row_sums import ColumnSum

ALPHA, BETA = 0.1, 0.4
MIN_ROWS = 8


class Act(contract.ComparedReading):
    """The question's rows with sinks damped."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "sinks that all rows share are damped, the rest takes their mass", "arXiv 2406.15765"
    )

    alpha: float = option(ALPHA, "The mean attention above which a token is a sink.", ge=0, le=1)
    beta: float = option(BETA, "What a sink keeps.", ge=0, le=1)

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """What each token draws from the trunk's rows."""
        return {"column": lambda: ColumnSum(shape.trunk)}

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The mean of the calibrated rows: `[L, H, N]`."""
        asked = window.branches[branch]
        own = asked.weights.shape[2]
        column = pad(window.sums["column"].result(), (0, own)) + asked.weights.sum(2)
        sinks = find_sinks(column, self.alpha)
        rows = damp_sinks(asked.weights[:, :, asked.first_row :], sinks[:, :, None], self.beta)
        return rows.mean(2)[..., window.shape.passage]


def find_sinks(column: Tensor, alpha: float) -> Tensor:
    """Which of T tokens draw more than `alpha` of the rows that see them: `[..., T]` bool.

    Args:
        column: sums of attention over all rows of the prompt, `[..., T]`.
    """
    seen_by = torch.arange(column.shape[-1], 0, -1)
    sinks = (column / seen_by > alpha) & (seen_by >= MIN_ROWS)
    sinks[..., 0] = False
    return sinks


def damp_sinks(rows: Tensor, sinks: Tensor, beta: float) -> Tensor:
    """Rows `[..., T]` whose sinks keep `beta` of their weight; the others share the rest."""
    taken = (rows * sinks).sum(-1, keepdim=True) * (1 - beta)
    rest = (rows * ~sinks).sum(-1, keepdim=True)
    # where only sinks are attended to, nothing can take their mass
    return torch.where(
        rest > 0, torch.where(sinks, rows * beta, rows * (1 + taken / rest.clamp_min(1e-30))), rows
    )


Reading = Act
