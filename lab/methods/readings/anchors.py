"""Anchors: tokens that later tokens come back to, and where a head's look back begins anew.

Source: preplan and anchor tokens (arXiv 2510.13554; the formulas are our reconstruction):

    span of a head = mean over rows t of Σ_s a[t, s]·(t - s);  local: least 30 %, global: most 30 %
    FAI_s  = mean over global heads of the mean over rows t in [s + low, s + high] of a[t, s]
    WAAD_t = mean over local heads of Σ_s a[t, s]·min(t - s, W)

with low 10, high 50, W 10. Both are of the passage alone. The features of a unit are log mean and
log max of FAI over its tokens; WAAD (`backward_spans`) is high where a new chunk begins.

Departures: rows are those of opening, title and passage; at the passage's end the mean is over the
rows that there are, and a token without any has FAI 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.errors import BadInput
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
from tamis_lab.methods.window_attention.row_sums import BandSum, SpanSum

LOW, HIGH, MOST = 10, 50, 10
HEAD_SHARE = 0.3


class Anchors(contract.Reading):
    """How much later tokens come back to each token, whatever the question."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "tokens that later ones come back to; of the passage alone", "after arXiv 2510.13554"
    )

    low: int = option(LOW, "Tokens from which on a token's anchor weight is measured.", ge=0)
    high: int = option(HIGH, "Tokens up to which it is measured.")
    most: int = option(MOST, "The cap of a distance in backward_spans.", ge=1)

    def setup(self) -> None:
        """Refuses an empty band.

        Raises:
            BadInput: low is above high.
        """
        if self.low > self.high:
            raise BadInput(f"low is {self.low} and high {self.high}; give 0 ≤ low ≤ high")

    def visitors(self, shape: WindowShape) -> VisitorFactories:
        """The band of each column, and the span of each row, capped and not."""
        return {
            f"band {self.low} {self.high}": lambda: BandSum(shape.trunk, self.low, self.high),
            "span": SpanSum,
            f"span {self.most}": lambda: SpanSum(self.most),
        }

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """FAI of the passage's tokens: `[1, 1, N]`."""
        band = window.sums[f"band {self.low} {self.high}"].result()
        far = spread_heads(window.sums["span"].result().mean(-1))[1]
        anchor = band_means(band, self.low, self.high)[far].mean(0)
        return anchor[None, None, window.shape.passage]

    def backward_spans(self, window: WindowAttention) -> Tensor:
        """WAAD of the passage's tokens, from 0 to `most`: `[N]`."""
        near = spread_heads(window.sums["span"].result().mean(-1))[0]
        spans: Tensor = window.sums[f"span {self.most}"].result()
        return spans[near].mean(0)[window.shape.passage]

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean of FAI over a unit: `[U]`; heads are chosen by their spans."""
        return mean_tokens(self.token_weights(window, 0)[0, 0], spans)


def spread_heads(span: Tensor) -> tuple[Tensor, Tensor]:
    """The heads of the least and of the most span, 30 % of all each: `[L, H]` bool both."""
    count = max(1, round(HEAD_SHARE * span.numel()))
    order = span.flatten().argsort(stable=True)
    local, far = torch.zeros(2, span.numel(), dtype=torch.bool)
    local[order[:count]], far[order[-count:]] = True, True
    return local.view(span.shape), far.view(span.shape)


def band_means(band: Tensor, low: int, high: int) -> Tensor:
    """Sums over the rows in a band after each token, divided by how many there are: `[..., P]`."""
    tokens = band.shape[-1]
    at = torch.arange(tokens)
    rows = (torch.clamp(at + high, max=tokens - 1) - (at + low) + 1).clamp_min(0)
    return band / rows.clamp_min(1)


Reading = Anchors
