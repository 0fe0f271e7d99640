"""Attention rollout: how much of each token is mixed into the question's states, layer by layer.

Source: Abnar & Zuidema 2020 (arXiv 2005.00928, §3):

    Ã_l = ½ (mean over heads of A_l + I),   R_l = Ã_l R_{l-1},   R_0 = I
    s_j(l) = mean over the question's rows r of R_l[r, j]

Departures: read at four depths (a quarter, half, three quarters and all of the layers that are
read), two features each; columns of the template's opening are dropped and rows normalised again,
because in a causal model mass runs to the first token at every level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.probes.probing.heads import Head
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    EntryInfo,
    TokenSpan,
    VisitorFactories,
    WindowAttention,
    WindowShape,
    mean_tokens,
)
from tamis_lab.methods.window_attention.row_sums import PathSum

DEPTHS = 4


class Rollout(contract.ComparedReading):
    """The running product of all heads' mean attention, at four depths."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "product of the layers' mean attention, down to the tokens", "arXiv 2005.00928"
    )

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The running product."""
        return {"path": lambda: PathSum(shape.trunk, shape.opening, shape.branches)}

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The question's rows of R at each depth: `[4, 1, N]`."""
        path = torch.stack(window.sums["path"].rollout[branch])[..., window.shape.title :]
        last = [max(0, len(path) * (d + 1) // DEPTHS - 1) for d in range(DEPTHS)]
        return path[last][:, None]

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean of R's last depth over a unit: `[U]`; heads are mixed, so none are chosen."""
        tokens = self.token_weights(window, 0)[-1, 0]
        if self.less_empty:
            tokens = tokens - self.token_weights(window, 1)[-1, 0]
        return mean_tokens(tokens, spans)


Reading = Rollout
