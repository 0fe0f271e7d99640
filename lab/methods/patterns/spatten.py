"""SpAtten: tokens that no row of the question looks at stop half way.

Source: SpAtten (Wang et al. 2021, arXiv 2012.09852, §3): a token's importance is the attention it
received, summed over heads, rows and layers so far; only the best go on, and what was pruned never
returns, so that its linear layers are saved as well.

    t_i = Σ over layers so far, heads and rows of a[l, h, r, i];   after layer l0 the best ρ go on

Departures: rows are the question's alone; tokens are pruned once, after two fifths of the layers;
the opening, the question and the best token of every unit always go on; heads are not pruned, and
no value or bit is skipped, which are for hardware.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.prefill import contract
from tamis_lab.methods.prefill.contract import PatternInfo, PromptShape

DEPTH = 0.4
"""The share of the layers that all tokens pass."""


class Spatten(contract.Pattern):
    """The best tokens by the question's rows so far."""

    info: ClassVar[PatternInfo] = PatternInfo(
        "tokens that the question's rows look at least stop after two fifths of the layers",
        "arXiv 2012.09852",
        share="tokens that go on",
    )

    def start(self, shape: PromptShape) -> contract.Sight:
        """Sums of one prompt."""
        return _Sight(self.share, shape)


class _Sight(contract.Sight):
    def __init__(self, share: float, shape: PromptShape) -> None:
        self._share, self._shape = share, shape
        self._last = max(1, round(DEPTH * shape.layers)) - 1
        self._importance = torch.zeros(shape.tokens)

    def onward(self, layer: int, weights: Tensor) -> Tensor | None:
        """After the last whole layer, the best tokens; before and later, all."""
        if layer > self._last or self._share >= 1:
            return None
        self._importance += weights.float().sum((0, 1))
        return (
            best_tokens(self._importance, self._share, self._shape) if layer == self._last else None
        )


def best_tokens(importance: Tensor, share: float, shape: PromptShape) -> Tensor:
    """The share of tokens of most importance, with those that always go on: `[m]`, ascending.

    Args:
        importance: of every token, `[n]`.
    """
    ranked = importance.clone()
    first = int(shape.passages[0, 0]) if len(shape.passages) else 0
    ranked[:first] = torch.inf
    ranked[shape.context :] = torch.inf
    for start, stop in shape.units.tolist():
        if stop > start:
            ranked[start + int(importance[start:stop].argmax())] = torch.inf
    kept = max(int(ranked.isinf().sum()), math.floor(share * shape.tokens))
    return ranked.topk(kept).indices.sort().values


Pattern = Spatten
