"""Attention buckets: the prompt read again with another base of the rotary positions, and fused.

Source: Chen et al. 2023 (arXiv 2312.04455, §3): several runs whose rotary bases differ, so that the
trough of one run's attention over distance is another's peak; the paper mixes the runs' next-token
distributions by confidence.

    features = mean over runs of log mean and log max of each head
    score    = mean over runs of the log of a unit's mean weight

Departures: two bases, the native one times {1, factor}; unit scores are fused in place of
next-token distributions, by the mean of their logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.attention.rope import remove_rotation
from tamis.probes.probing.heads import Head
from tamis_lab.methods.attention_math import rotate
from tamis_lab.methods.window_attention import contract
from tamis_lab.methods.window_attention.contract import (
    TINY,
    EntryInfo,
    TokenSpan,
    WindowAttention,
    WindowShape,
    log_mean_max,
    mean_tokens,
)
from tamis_lab.methods.window_attention.visitor import PassEdit


class Buckets(contract.Reading):
    """The mean of two passes with different rotary bases."""

    info: ClassVar[EntryInfo] = EntryInfo(
        "a second pass with another rotary base, fused in logarithms", "arXiv 2312.04455"
    )

    factor: float = option(1.9, "Of the second pass's base.", gt=0)

    def edit(self, shape: WindowShape) -> PassEdit | None:
        """Rotates queries and keys by the other base."""
        return OtherBase(self.reader.body, self.factor)

    def token_weights(self, window: WindowAttention, branch: int) -> Tensor:
        """The mean of the second pass's rows: `[L, H, N]`."""
        return window.passage_mean(branch)

    def pool(self, window: WindowAttention, spans: Sequence[TokenSpan]) -> Tensor:
        """The mean of both passes' features: `[U, 2·L·H]`."""
        return mean_of_passes(window, lambda one: log_mean_max(one.passage_mean(0), spans))

    def score(
        self, window: WindowAttention, spans: Sequence[TokenSpan], heads: Sequence[Head] | None
    ) -> Tensor:
        """The mean over both passes of the log of a unit's mean weight: `[U]`."""

        def logs(one: WindowAttention) -> Tensor:
            tokens = one.head_mean(one.passage_mean(0), heads)
            return mean_tokens(tokens, spans).clamp_min(TINY).log()

        return mean_of_passes(window, logs)


def mean_of_passes(window: WindowAttention, figure: Callable[[WindowAttention], Tensor]) -> Tensor:
    """The mean of a figure over the edited pass and the native one."""
    passes = [window] if window.native is None else [window.native, window]
    return torch.stack([figure(one) for one in passes]).mean(0)


class OtherBase(PassEdit):
    """Gives queries and keys another rotary base."""

    def __init__(self, body: Any, factor: float) -> None:
        """`body` is the decoder whose base is multiplied."""
        self._body, self._factor = body, factor

    def states(
        self, layer: int, query: Tensor, key: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The states, rotated by the other base."""
        turned = [
            rotate(
                self._body,
                layer,
                remove_rotation(self._body, layer, states, positions),
                positions,
                self._factor,
            )
            for states in (query, key)
        ]
        return turned[0], turned[1]


Reading = Buckets
