"""Probes on readings, by cross-validation: no question is judged by a fit that saw its article.

outer fold judged ─ the four others fit ─ their L2 chosen by one of them held out
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.bench.readings.cases import ReadingCase
from tamis_lab.datasets.record_files import FOLDS, fold_of
from tamis_lab.train.fit import LabelledFeatures, fit_listwise, mean_listwise_loss

L2_GRID = (0.003, 0.03, 0.3)
_TRIAL_STEPS = 30


def out_of_fold_scores(
    cases: Sequence[ReadingCase], judged: Sequence[ReadingCase], names: Sequence[str]
) -> list[Tensor]:
    """Scores of each judged case by weights fitted on cases of other articles: `[U]` each.

    Args:
        cases: to fit on, by a listwise loss; those without gold or with nothing else do not count.
        names: readings whose features are joined.

    Raises:
        BadInput: a fold has no question to fit on.
    """
    folds = [fold_of(case.record) for case in cases]
    questions = [LabelledFeatures(join_features(case, names), case.gold) for case in cases]
    weights: dict[int, Tensor] = {}
    for fold in sorted({fold_of(case.record) for case in judged}):
        inner = (fold + 1) % FOLDS
        fits, held = (
            [
                q
                for q, own in zip(questions, folds, strict=True)
                if (own == inner) is is_held and own != fold and q.gold.any() and not q.gold.all()
            ]
            for is_held in (False, True)
        )
        weights[fold] = fit_with_chosen_l2(fits, held)
    return [join_features(case, names) @ weights[fold_of(case.record)] for case in judged]


def join_features(case: ReadingCase, names: Sequence[str]) -> Tensor:
    """The features of some readings side by side: `[U, F]`."""
    return torch.cat([case.features[name] for name in names], 1)


def fit_with_chosen_l2(
    fits: Sequence[LabelledFeatures], held: Sequence[LabelledFeatures]
) -> Tensor:
    """Weights fitted on both, with the L2 whose fit on the first has the least loss on the other.

    Raises:
        BadInput: there is nothing to fit on.
    """
    if not fits and not held:
        raise BadInput(
            "all questions are on the articles that are judged; give more files, or more of each"
        )
    if not fits or not held:
        return fit_listwise([*fits, *held], L2_GRID[1])[0]
    losses = {
        l2: mean_listwise_loss(fit_listwise(fits, l2, _TRIAL_STEPS)[0], held) for l2 in L2_GRID
    }
    best = min(losses, key=lambda l2: losses[l2])
    return fit_listwise([*fits, *held], best)[0]
