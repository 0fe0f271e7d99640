"""MoA (arXiv 2406.14909, §4) as a plan for caches: how far back each key head has to be kept.

A plan belongs to a model and not to a passage: key head (l, h) keeps the first tokens and a span of
the last ones. For every head and span it was measured how much the probe's scores change when only
that head is cut to it; spans are lengthened in the order of loss saved a token, until the budget is
spent. Departures: the loss is measured and not a first-order estimate; a greedy choice, where the
paper solves an integer program; one length of span, where the paper's grows with the text.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_thinning.contract import (
    SPANS,
    EvictionClass,
    EvictionInfo,
    EvictionPlan,
    KeptPassage,
    check_share,
    needed,
    ragged_plan,
)

SINKS = 4


class Moa:
    """Spans of heads by what each is worth to the probe."""

    info: ClassVar[EvictionInfo] = EvictionInfo(
        "the last tokens of each head, as many as it is worth", "MoA, 2406.14909", "spans"
    )

    def keep(self, passage: KeptPassage, share: float) -> EvictionPlan:
        """A prefix and a suffix of each head, as long as the plan says."""
        check_share(share)
        layers, heads, tokens = passage.shape
        losses = needed(passage.span_losses, "span losses").flatten(0, 1)
        lengths = choose_spans(losses, tokens, int(share * layers * heads * tokens))
        place = torch.arange(tokens)
        first = torch.minimum(lengths, torch.tensor(SINKS))[:, None]
        kept = (place < first) | (place >= tokens - (lengths[:, None] - first))
        return ragged_plan(kept.view(layers, heads, tokens))


def choose_spans(losses: Tensor, tokens: int, budget: int) -> Tensor:
    """How many tokens each of S heads keeps, sinks included: `[S]`, at least one.

    Args:
        losses: `[S, spans]`, by `SPANS`; to keep all tokens loses nothing.
        budget: of all heads together. A larger one lengthens spans and shortens none.
    """
    sizes = [min(tokens, max(1, SINKS + span)) for span in SPANS] + [tokens]
    falling = torch.cat((losses, torch.zeros(len(losses), 1)), 1).cummin(1).values.tolist()
    steps = sorted(
        (step for head, loss in enumerate(falling) for step in _steps(head, loss, sizes)),
        key=lambda step: -step[0],
    )
    lengths = [sizes[0] if len(falling) * sizes[0] <= budget else 1] * len(falling)
    left = budget - sum(lengths)
    for _, head, size in steps:
        if size - lengths[head] > left:
            break  # a cheaper step further on would make room differ with the budget
        left -= size - lengths[head]
        lengths[head] = size
    return torch.tensor(lengths)


def _steps(head: int, loss: list[float], sizes: list[int]) -> list[tuple[float, int, int]]:
    """A head's worthwhile steps: loss saved a token, falling; head; its new size."""
    found, at = [], 0
    while at < len(sizes) - 1 and sizes[at] < sizes[-1]:
        longer = [s for s in range(at + 1, len(sizes)) if sizes[s] > sizes[at]]
        rate, best = max(((loss[at] - loss[s]) / (sizes[s] - sizes[at]), s) for s in longer)
        found.append((rate, head, sizes[best]))
        at = best
    return found


Eviction: EvictionClass = Moa
