"""What a probe reaches on labelled questions: the figures on its card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.second_step import unit_probabilities, unit_scores
from tamis.probes.probing.linear import LinearProbe
from tamis_lab.train.fit import auc, brier_skill, reliability
from tamis_lab.train.probe.labelled_readings import LabelledReading


def probe_figures(
    probe: LinearProbe, cases: Sequence[LabelledReading], shares: Sequence[float] = (0.1, 0.2)
) -> dict[str, Any]:
    """What a probe reaches on labelled questions: evidence kept, AUC, calibration.

    Args:
        shares: of a question's tokens, at which the evidence kept is measured.
    """
    p = [case_probabilities(probe, case) for case in cases]
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
            name: {str(share): evidence_kept(p, cases, share, name) for share in shares}
            for name in sorted({case.source for case in cases})
        },
    }


def evidence_kept(
    p: Sequence[Tensor], cases: Sequence[LabelledReading], share: float, source: str
) -> list[float]:
    """What is kept of the gold of one file's questions at a share of their tokens.

    Returns:
        the share of its gold units, the share of questions with all of them, and the questions.
    """
    kept = total = whole = questions = 0
    for scores, case in zip(p, cases, strict=True):
        if case.source != source:
            continue
        chosen = fill_token_share(scores, case.tokens, share)
        hits = sum(bool(g) for g in case.gold[chosen])
        kept, total = kept + hits, total + int(case.gold.sum())
        whole, questions = whole + (hits == int(case.gold.sum())), questions + 1
    return [round(kept / max(1, total), 4), round(whole / max(1, questions), 4), questions]


def fill_token_share(scores: Tensor, tokens: Sequence[int], share: float) -> list[int]:
    """The units of the highest scores that fit a share of all tokens, best first."""
    room, chosen = int(share * sum(tokens) + 1e-9), []
    for unit in scores.argsort(descending=True, stable=True).tolist():
        if tokens[unit] <= room:
            room -= tokens[unit]
            chosen.append(unit)
    return chosen


def case_probabilities(probe: LinearProbe, case: LabelledReading) -> Tensor:
    """The probability of each unit of one question, `[U]`."""
    return unit_probabilities(probe, scores_of(probe, case))


def scores_of(probe: LinearProbe, case: LabelledReading, with_cosines: bool = False) -> Tensor:
    """The score of each unit of one question, `[U]`."""
    cosines = case.cosines if with_cosines else None
    return unit_scores(probe, case.texts, case.first, cosines)[0]
