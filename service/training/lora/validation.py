"""How well a pupil does on articles it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tamis.service.training.lora.examples import Example
from tamis.service.training.lora.student import Pupil
from tamis.service.training.probe.figures import filled

SHARE = 0.2


@torch.no_grad()
def judged(
    pupil: Pupil, held: Sequence[Example], report: Callable[[str, int, int, str], None]
) -> dict[str, Any]:
    """Loss, and the share of gold kept in a fifth of the tokens, by each head and by source."""
    losses: list[float] = []
    kept: dict[str, dict[str, list[float]]] = {}
    for i, example in enumerate(held, 1):
        scores = pupil.scores(example)
        losses.append(float(pupil.loss(scores, example.gold)))
        for name, z in scores.items():
            of = kept.setdefault(name, {}).setdefault(example.source, [])
            of.append(gold_kept(z, example, SHARE))
        report("judging", i, len(held), "")
    return {
        "loss": round(sum(losses) / max(1, len(losses)), 4),
        "kept": {
            name: {source: round(sum(v) / len(v), 4) for source, v in sorted(rows.items())}
            for name, rows in kept.items()
        },
    }


def gold_kept(scores: Tensor, example: Example, share: float) -> float:
    """Share of an example's gold units among the best that fit a share of its tokens."""
    chosen = filled(scores, example.tokens, share)
    return float(example.gold[chosen].sum() / example.gold.sum())
