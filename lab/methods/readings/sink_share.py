"""Sink share: how much of each head's attention goes to the prompt's first token.

Source: Why do LLMs attend to the first token? (Barbero et al. 2025, arXiv 2504.02732, §2): a head
attends to the first token where it has no use for the rest; its sink rate is the share of heads
whose mean weight on it exceeds a threshold.

    z[l, h] = mean over the question's rows r of a[l, h, r, 0]
    features of a window: log z and log(1 - z - mass on the passage), `[2·L·H]`

Departures: rows of the question alone; a number a window, so its units share it and only passages,
windows and requests are told apart. The score is the mean over heads of 1 - z.
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
    WindowAttention,
    logs_for_every_unit,
)


class SinkShare(contract.ComparedReading):
    """What the question's rows leave at the first token."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "attention left at the first token, of each head; a window's units share it",
        "arXiv 2504.02732",
    )
    ranks_units: ClassVar[bool] = False

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """Logs of the sink's share and of what is neither sink nor passage: `[U, 2·L·H]`."""
        asked = logs_for_every_unit(torch.stack(shares(window, 0)), spans)
        if not self.less_empty:
            return asked
        return asked - logs_for_every_unit(torch.stack(shares(window, 1)), spans)

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean over heads of what is not left at the sink: `[U]`, alike in a window."""
        z = window.head_mean(shares(window, 0)[0], heads)
        if self.less_empty:
            z = z - window.head_mean(shares(window, 1)[0], heads)
        return (1 - z).expand(len(spans))


def shares(window: WindowAttention, branch: int) -> tuple[Tensor, Tensor]:
    """The share of the sink, and of what is neither sink nor passage: `[L, H]` each."""
    mean = window.branches[branch].mean
    sink, passage = mean[..., 0], mean[..., window.shape.passage].sum(-1)
    return sink, (1 - sink - passage).clamp_min(0)


Reading = SinkShare
