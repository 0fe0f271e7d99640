"""How well a student does on articles that it does not learn from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from tamis_lab.train.lora.examples import Example
from tamis_lab.train.lora.student import Student
from tamis_lab.train.probe.figures import fill_token_share

TOKEN_SHARE = 0.2
"""Of an example's tokens, in which the gold kept is measured."""


@torch.no_grad()
def evaluate_student(
    student: Student, held_out: Sequence[Example], report: Callable[[str, int, int, str], None]
) -> dict[str, Any]:
    """Loss, and the share of gold kept in a fifth of the tokens, by each head and by source."""
    losses: list[float] = []
    kept: dict[str, dict[str, list[float]]] = {}
    for i, example in enumerate(held_out, 1):
        scores = student.scores(example)
        losses.append(float(student.loss(scores, example.gold)))
        for name, z in scores.items():
            of = kept.setdefault(name, {}).setdefault(example.source, [])
            of.append(kept_gold_share(z, example, TOKEN_SHARE))
        report("judging", i, len(held_out), "")
    return {
        "loss": round(sum(losses) / max(1, len(losses)), 4),
        "kept": {
            name: {source: round(sum(v) / len(v), 4) for source, v in sorted(rows.items())}
            for name, rows in kept.items()
        },
    }


def kept_gold_share(scores: Tensor, example: Example, share: float) -> float:
    """Share of an example's gold units among the best that fit a share of its tokens."""
    chosen = fill_token_share(scores, example.tokens, share)
    return float(example.gold[chosen].sum() / example.gold.sum())
