"""What a probe reaches on labelled questions: the figures on its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.methods.question_rows import probabilities, second_step_scores
from tamis.probes.probing.fit import auc, brier_skill, reliability
from tamis.probes.probing.linear import LinearProbe
from tamis.service.training.probe.labelled_readings import Case


def figures_of(
    probe: LinearProbe, cases: Sequence[Case], shares: Sequence[float] = (0.1, 0.2)
) -> dict[str, Any]:
    """What a probe reaches on cases: evidence at a share of the tokens, AUC, calibration."""
    p = [judged(probe, case) for case in cases]
    flat, gold = torch.cat(p).double().numpy(), torch.cat([c.gold for c in cases]).double().numpy()
    group = np.repeat(np.arange(len(cases)), [len(c.gold) for c in cases])
    skill = brier_skill(flat, gold, group)
    return {
        "questions": len(cases),
        "units": len(flat),
        "auc": round(auc(flat, gold), 4),
        "brier_skill": [round(x, 4) for x in skill],
        "reliability": [
            {k: round(v, 4) for k, v in row.items()} for row in reliability(flat, gold)
        ],
        "evidence": {
            name: {str(share): evidence(p, cases, share, name) for share in shares}
            for name in sorted({case.source for case in cases})
        },
    }


def evidence(p: Sequence[Tensor], cases: Sequence[Case], share: float, source: str) -> list[float]:
    """Share of gold units kept, of questions with all of it, at a share of tokens; questions."""
    kept = total = whole = questions = 0
    for scores, case in zip(p, cases, strict=True):
        if case.source != source:
            continue
        chosen = filled(scores, case.tokens, share)
        hits = sum(bool(g) for g in case.gold[chosen])
        kept, total = kept + hits, total + int(case.gold.sum())
        whole, questions = whole + (hits == int(case.gold.sum())), questions + 1
    return [round(kept / max(1, total), 4), round(whole / max(1, questions), 4), questions]


def filled(scores: Tensor, tokens: Sequence[int], share: float) -> list[int]:
    """The best units, in order of score, that fit a share of all tokens."""
    room, chosen = int(share * sum(tokens) + 1e-9), []
    for unit in scores.argsort(descending=True, stable=True).tolist():
        if tokens[unit] <= room:
            room -= tokens[unit]
            chosen.append(unit)
    return chosen


def judged(probe: LinearProbe, case: Case) -> Tensor:
    """The probabilities of one case's units."""
    return probabilities(probe, second_step_scores(probe, case.first, case.lexicon))
