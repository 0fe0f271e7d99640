"""Local or long: how much of a head's attention falls on far tokens, estimated from their mean.

Source: QAdA (arXiv 2502.09647): the far keys of a head as a Gaussian, so that no far key is read:

    log far  ≈ log T + q·μ + ½ qᵀΣq         T far keys of mean μ and covariance Σ, q scaled
    log near = log Σ exp(q·k)               sinks and the window before the row
    share    = sigmoid(log far - log near)

Features are the mean over the question's rows of each head's share, `[L·H]`, one window's units
sharing them: it says whether a head looks far, not where. The score is the mean over heads.

Departures: 4 sinks and a window of 128 tokens; statistics are of the window that is read itself;
where no token is far, the share is 0; the share is reported, no head is switched by it.
"""

from __future__ import annotations

import math
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
    logs_for_every_unit,
)
from tamis_lab.methods.window_attention.row_sums import LayerSums
from tamis_lab.methods.window_attention.visitor import RowBlock

SINKS, WINDOW = 4, 128


class LocalLong(contract.Reading):
    """The estimated far share of each head."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "share of attention on far tokens, from the keys' mean and covariance", "arXiv 2502.09647"
    )
    ranks_units: ClassVar[bool] = False

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The far shares of the question's rows."""
        tokens, first_row = shape.branches[0]
        return {"far_share": lambda: FarShare(shape.trunk, tokens, first_row)}

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """The logs of the far shares, for every unit: `[U, L·H]`."""
        return logs_for_every_unit(window.sums["far_share"].result(), spans)

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean far share, alike in a window: `[U]`."""
        return window.head_mean(window.sums["far_share"].result(), heads).expand(len(spans))


class FarShare:
    """The mean far share of the first branch's question rows."""

    def __init__(self, trunk: int, tokens: int, first_row: int) -> None:
        """Of a branch of `tokens` after a trunk, rows from `first_row` on."""
        self._trunk, self._rows, self._first_row = trunk, tokens - first_row, first_row
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the shares of the branch's rows."""
        if block.branch != 0:
            return
        counted = max(0, self._first_row - (block.first - self._trunk))
        shares = far_shares(block.queries[:, counted:], block.keys, block.first + counted)
        self._sums.add(block.layer, shares.sum(1) / self._rows)

    def result(self) -> Tensor:
        """The mean shares: `[L, H]`."""
        return self._sums.stack()


def far_shares(
    queries: Tensor, keys: Tensor, first: int, sinks: int = SINKS, window: int = WINDOW
) -> Tensor:
    """The estimated share of far keys in each row's softmax: `[H, n]`.

    Args:
        queries: scaled, of rows at positions from `first` on: `[H, n, d]`.
        keys: of all tokens up to the last row: `[Hkv, K, d]`.
        sinks: the first so many tokens count as near. window: so do the last so many before the
            first row, and all after them.
    """
    keys = keys.repeat_interleave(len(queries) // len(keys), 0)
    far = keys[:, sinks : max(sinks, first - window)]
    if not far.shape[1]:
        return queries.new_zeros(queries.shape[:2])
    logits = queries @ keys.transpose(1, 2)
    rows, columns = torch.arange(first, first + queries.shape[1]), torch.arange(keys.shape[1])
    hidden = columns[None] > rows[:, None]
    hidden[:, sinks : sinks + far.shape[1]] = True
    near = logits.masked_fill(hidden, -torch.inf).logsumexp(-1)
    mean = far.mean(1, keepdim=True)
    spread = (queries @ (far - mean).transpose(1, 2)).square().mean(-1)  # qᵀΣq
    mass = math.log(far.shape[1]) + (queries @ mean.transpose(1, 2))[..., 0] + spread / 2
    return torch.sigmoid(mass - near)


Reading = LocalLong
