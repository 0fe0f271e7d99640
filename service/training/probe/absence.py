"""Questions whose context holds no answer, and what tells them from the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tamis.compressors.features.answerability import answer_features
from tamis.compressors.features.words import WORD_FEATURES, hop_features
from tamis.compressors.methods.question_rows import answerability, second_step_scores
from tamis.compressors.reading.windows import Reading
from tamis.probes.probing.fit import auc
from tamis.probes.probing.linear import LinearProbe
from tamis.service.datasets.records import annotated_units
from tamis.service.training.probe.labelled_readings import Case, case_of

_C = 0.1


@dataclass(frozen=True, slots=True)
class Folded:
    """Weights from all questions, and per fold those that never saw its articles."""

    whole: Tensor
    bias: float
    folds: dict[int, tuple[Tensor, float]]

    def scores(self, features: Tensor, fold: int) -> Tensor:
        """Scores `[U]` by weights that never saw the fold, with the centring of its fit."""
        w, bias = self.folds.get(fold, (self.whole, self.bias))
        # less the bias of the whole, so that absolute scores mean the same in every fold
        return features @ w + bias - self.bias


@dataclass(frozen=True, slots=True)
class Steps:
    """The fits that answerability is judged by."""

    first: Folded
    hop: Folded
    alone: Folded

    def features(self, case: Case) -> Tensor:
        """What is known of a request by weights that never saw its article."""
        z = self.first.scores(case.first, case.fold)
        second = torch.from_numpy(hop_features(case.lexicon, z.double().numpy()))
        z = self.hop.scores(second, case.fold)
        alone = self.alone.scores(case.lone, case.fold)
        return answer_features(z, alone, case.first[:, -len(WORD_FEATURES) :])


def without_gold(case: Case) -> Case | None:
    """The same question among those of its passages that hold no gold; None if all do.

    Passages are read alone, so what was seen of them stands; words are counted anew.
    """
    docs = case.record["docs"]
    record = {**case.record, "docs": [doc for doc in docs if not doc["gold"]], "answer_spans": []}
    units = annotated_units(case.record)
    kept = [i for i, unit in enumerate(units) if not docs[unit.passage]["gold"]]
    if not kept:
        return None
    tokens = tuple(case.tokens[i] for i in kept)
    look = Reading(case.lone[torch.tensor(kept), :-1], tokens, 0, 0, {})
    bare = case_of(case.source, record, look, torch.zeros(len(kept), dtype=torch.bool))
    return replace(bare, fold=case.fold)


def answer_weights(steps: Steps, present: Sequence[Case], absent: Sequence[Case]) -> Tensor:
    """Weights and bias `[len(ANSWER_FEATURES) + 1]` of a logistic regression over requests.

    Questions without an answer are the records that say so and every other one with its gold
    passages taken away. Both sides weigh the same, so that 0.5 is even odds.
    """
    lacking = [*absent, *(bare for case in present if (bare := without_gold(case)) is not None)]
    if not lacking:
        return torch.zeros(0)
    x = torch.stack([steps.features(case) for case in (*present, *lacking)]).numpy()
    y = np.array([1] * len(present) + [0] * len(lacking))
    weight = np.where(y == 1, len(lacking) / len(present), 1.0)
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=5000))
    fit.fit(x, y, logisticregression__sample_weight=weight)
    scaler, line = fit[0], fit[1]
    w = torch.from_numpy(line.coef_[0] / scaler.scale_)
    bias = torch.tensor(line.intercept_[0]) - w @ torch.from_numpy(scaler.mean_)
    return torch.cat([w, bias[None]]).float()


def answer_figures(
    probe: LinearProbe, present: Sequence[Case], absent: Sequence[Case]
) -> dict[str, Any]:
    """AUROC a source: against records without an answer, and against gold passages taken away."""
    if "answerable" not in probe.weights or not len(probe.weights["answerable"]):
        return {}
    names = sorted({case.source for case in (*present, *absent)})
    yes, no, gone = ({name: list[float]() for name in names} for _ in range(3))
    for case in present:
        yes[case.source].append(_judged(probe, case))
        if (bare := without_gold(case)) is not None:
            gone[case.source].append(_judged(probe, bare))
    for case in absent:
        no[case.source].append(_judged(probe, case))
    found = {name: _auroc(yes[name], no[name], gone[name]) for name in names}
    pooled = ([p for name in names for p in side[name]] for side in (yes, no, gone))
    return found | {"pooled": _auroc(*pooled)}


def _judged(probe: LinearProbe, case: Case) -> float:
    z = second_step_scores(probe, case.first, case.lexicon)
    return answerability(probe, case.first, z, case.lone) or 0.0


def _auroc(yes: list[float], no: list[float], gone: list[float]) -> dict[str, Any]:
    def against(other: list[float]) -> float | None:
        if not yes or not other:
            return None
        truth = np.array([1.0] * len(yes) + [0.0] * len(other))
        return round(auc(np.array(yes + other), truth), 4)

    return {
        "answerable": len(yes),
        "unanswerable": len(no),
        "auroc": against(no),
        "without_gold": len(gone),
        "auroc_without_gold": against(gone),
    }
