"""Fitting: planted truths are found again, and scikit-learn agrees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import Calibration
from tamis_lab.train.fit import (
    LabelledFeatures,
    auc,
    brier_skill,
    fit_calibration,
    fit_listwise,
    fit_logistic,
    reliability,
)

PLANTED = torch.tensor([2.0, -1.0, 0.0, 0.5])


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def planted_questions(
    questions: int = 300, units: int = 12, seed: int = 0, shift: float = 0.0
) -> list[LabelledFeatures]:
    """One gold unit a question, drawn by softmax over features times `PLANTED`."""
    chance, found = draw(seed), []
    for _ in range(questions):
        x = torch.randn(units, len(PLANTED), generator=chance)
        gold = torch.zeros(units, dtype=torch.bool)
        gold[torch.multinomial((x @ PLANTED).softmax(0), 1, generator=chance)] = True
        found.append(
            LabelledFeatures(x + shift * torch.randn(1, len(PLANTED), generator=chance), gold)
        )
    return found


def direction(weights: Tensor) -> Tensor:
    return weights / weights.norm()


def test_listwise_finds_the_planted_direction():
    weights, _ = fit_listwise(planted_questions(), l2=1e-4)
    assert float(direction(weights) @ direction(PLANTED)) > 0.99
    assert weights.norm() == pytest.approx(float(PLANTED.norm()), rel=0.15)


def test_what_is_common_to_a_question_does_not_move_listwise():
    """Shifts ten times what tells its units apart; a classifier of single units drowns."""
    shifted = planted_questions(shift=10.0)
    by_list, by_unit = fit_listwise(shifted, l2=1e-5)[0], fit_logistic(shifted, l2=1e-5)[0]
    assert float(direction(by_list) @ direction(PLANTED)) > 0.99
    assert by_unit.norm() < by_list.norm() / 3


def test_a_question_counts_the_same_however_many_units_and_golds_it_has():
    """Its loss is a mean over golds: saying everything twice changes nothing."""
    base = planted_questions(60)
    one, other = base[:30], base[30:]
    doubled = [LabelledFeatures(q.features.repeat(2, 1), q.gold.repeat(2)) for q in one]
    plain, _ = fit_listwise([*one, *other], l2=0.0)
    heavy, _ = fit_listwise([*doubled, *other], l2=0.0)
    torch.testing.assert_close(plain, heavy, rtol=0.05, atol=0.05)


def test_the_listwise_bias_centres_the_training_scores():
    questions = planted_questions(50, shift=2.0)
    weights, bias = fit_listwise(questions)
    scores = torch.cat([q.features for q in questions]) @ weights + bias
    assert float(scores.mean()) == pytest.approx(0.0, abs=1e-4)


def test_more_l2_means_smaller_weights():
    sizes = [
        float(fit_listwise(planted_questions(80), l2=l2)[0].norm()) for l2 in (1e-4, 1e-2, 1.0)
    ]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("l2", [1e-3, 3e-2])
def test_logistic_is_scikit_learns_with_balanced_classes(l2: float):
    """sklearn minimises C·Σ loss + ½|w|² with weights that sum to n; ours is mean loss + l2·|w|²,
    with balanced weights that average to 1, on features of unit spread: C = 1 / (2·n·l2)."""
    questions = planted_questions(120, shift=0.5)
    x = torch.cat([q.features for q in questions])
    gold = torch.cat([q.gold for q in questions])
    spread = x.std(0)
    oracle = LogisticRegression(C=1 / (2 * len(x) * l2), class_weight="balanced", tol=1e-8)
    oracle.fit(((x - x.mean(0)) / spread).numpy(), gold.numpy())
    weights, bias = fit_logistic(questions, l2=l2)
    due = oracle.decision_function(((x - x.mean(0)) / spread).numpy())
    np.testing.assert_allclose((weights * spread).numpy(), oracle.coef_[0], atol=2e-3)
    np.testing.assert_allclose((x @ weights + bias).numpy(), due, atol=1e-2)


def test_nothing_to_fit_is_refused():
    for fit in (fit_listwise, fit_logistic):
        with pytest.raises(BadInput, match="nothing can be fitted"):
            fit([])
    with pytest.raises(BadInput, match="nothing can be fitted"):
        fit_calibration([], [])


@pytest.mark.parametrize("fit", [fit_listwise, fit_logistic])
def test_a_feature_that_never_changes_breaks_nothing(fit: object):
    questions = [
        LabelledFeatures(torch.cat([q.features, torch.ones(len(q.gold), 1)], 1), q.gold)
        for q in planted_questions(40)
    ]
    weights, bias = fit(questions)
    assert torch.isfinite(weights).all()
    assert np.isfinite(bias)


def scored_requests(questions: int, seed: int = 1) -> tuple[list[Tensor], list[Tensor]]:
    """Scores, and golds drawn with probability sigmoid(1.5·z - 1)."""
    chance = draw(seed)
    scores = [2 * torch.randn(10, generator=chance) for _ in range(questions)]
    return scores, [torch.rand(10, generator=chance) < torch.sigmoid(1.5 * z - 1) for z in scores]


def test_calibration_gives_back_the_planted_rates():
    scores, golds = scored_requests(2_000)
    found = fit_calibration(scores, golds, absolute=True)
    assert found.a == pytest.approx(1.5, abs=0.1)
    assert found.d == pytest.approx(-1.0, abs=0.1)
    assert (found.b, found.c) == (0.0, 0.0)
    z = torch.linspace(-4, 4, 17)
    torch.testing.assert_close(found(z), torch.sigmoid(1.5 * z - 1), atol=0.02, rtol=0)


def test_calibration_hears_from_the_best_whether_any_unit_is_good():
    """Half of the requests have no answer: their best is as far from the rest, but lower."""
    chance, scores, golds = draw(2), [], []
    for answered in [True, False] * 500:
        z = torch.randn(10, generator=chance)
        z[0] = z[1:].max() + 3 * torch.rand(1, generator=chance) + 1
        gold = torch.zeros(10, dtype=torch.bool)
        gold[0] = answered
        scores.append(z if answered else z - 6)
        golds.append(gold)
    seen, alone = fit_calibration(scores, golds), fit_calibration(scores, golds, absolute=True)
    good, bad = seen(scores[0]), seen(scores[1])
    assert good[0] > 0.9
    assert bad.max() < 0.1
    p = [torch.cat([c(z) for z in scores]) for c in (seen, alone)]
    truth = torch.cat(golds).float()
    errors = [float((q - truth).square().mean()) for q in p]
    assert errors[0] <= errors[1]


def test_calibration_keeps_the_order_within_a_request():
    z = torch.tensor([0.3, -2.0, 5.0, 0.3])
    p = Calibration(0.5, -0.7, 0.9, 0.1)(z)
    assert p.argsort(stable=True).tolist() == z.argsort(stable=True).tolist()


def test_calibration_is_the_formula_written_down():
    z = torch.tensor([1.0, 2.0])
    total = float(np.log(np.exp(1) + np.exp(2)))
    due = [1 / (1 + np.exp(-(0.5 * x - 0.2 * 2 + 0.3 * total - 1))) for x in (1, 2)]
    assert Calibration(0.5, -0.2, 0.3, -1.0)(z).tolist() == pytest.approx(due, rel=1e-6)


def test_a_units_share_of_its_request_is_weighed_beside_its_score():
    z = torch.tensor([1.0, 2.0])
    share = np.exp([1, 2]) / np.exp([1, 2]).sum()
    due = [1 / (1 + np.exp(-(0.5 * x - 1 + 2.0 * s))) for x, s in zip((1, 2), share, strict=True)]
    found = Calibration(0.5, 0.0, 0.0, -1.0, 2.0)(z).tolist()
    assert found == pytest.approx(due, rel=1e-6)


def lone_best_requests(questions: int = 3000) -> tuple[list[Tensor], list[Tensor]]:
    """Requests with one answer, drawn by the softmax of scores of which many are hardly apart."""
    chance, scores, golds = draw(7), [], []
    for _ in range(questions):
        z = 3 * torch.randn(20, generator=chance)
        gold = torch.zeros(20, dtype=torch.bool)
        gold[torch.multinomial(z.softmax(0), 1, generator=chance)] = True
        scores.append(z)
        golds.append(gold)
    return scores, golds


def test_with_the_share_probabilities_are_right_at_the_top_too():
    scores, golds = lone_best_requests()
    truth = torch.cat(golds).float()
    gaps, errors = [], []
    for with_share in (False, True):
        found = fit_calibration(scores, golds, with_share=with_share)
        p = torch.cat([found(z) for z in scores])
        top = torch.cat([z.softmax(0) for z in scores]) > 0.9
        gaps.append(abs(float(p[top].mean() - truth[top].mean())))
        errors.append(float((p - truth).square().mean()))
    assert gaps[1] < 0.05 < 0.1 < gaps[0]
    assert errors[1] < errors[0]


def test_a_share_that_would_lower_probabilities_is_left_out():
    scores, golds = scored_requests(500)
    turned = [z.softmax(0) < 0.02 for z in scores]
    gold = [g & t | (z > 3) for g, t, z in zip(golds, turned, scores, strict=True)]
    assert fit_calibration(scores, gold, with_share=True).e >= 0


def test_absolute_calibration_of_one_unit_does_not_hear_of_another():
    found = fit_calibration(*scored_requests(200), absolute=True)
    one = found(torch.tensor([0.7]))
    beside = found(torch.tensor([0.7, 9.0, -3.0]))
    assert float(one[0]) == pytest.approx(float(beside[0]), abs=1e-7)


def test_calibration_of_no_units_is_no_probabilities():
    assert Calibration(1, 1, 1, 1)(torch.zeros(0)).tolist() == []


def test_scores_that_point_the_wrong_way_are_refused():
    scores, golds = scored_requests(200)
    with pytest.raises(BadInput, match="a higher score does not mean a better unit"):
        fit_calibration([-z for z in scores], golds, absolute=True)


@pytest.mark.parametrize("grain", [1, 3, 1000])
def test_auc_is_scikit_learns_ties_included(grain: int):
    chance = np.random.default_rng(grain)
    gold = (chance.random(400) < 0.2).astype(float)
    values = np.round((chance.normal(size=400) + gold) * grain) / grain
    assert auc(values, gold) == pytest.approx(roc_auc_score(gold, values), abs=1e-12)


def test_auc_by_hand():
    """Of four pairs of gold and other, two are in order, one tied, one not: 2.5 / 4."""
    assert auc(np.array([3.0, 1.0, 1.0, 0.5]), np.array([1.0, 1.0, 0.0, 0.0])) == 3.5 / 4
    assert auc(np.array([3.0, 1.0, 4.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0])) == 1.5 / 4


def test_brier_skill_by_hand():
    """Two questions. Own: .01 + .04 + .09 + .16 = .3; base rate 1/2: 4 · .25 = 1; skill .7.

    A draw holds the first question twice (1 - .1 / 1), both, or the second twice (1 - .5 / 1).
    """
    p, gold = np.array([0.9, 0.2, 0.7, 0.4]), np.array([1.0, 0.0, 1.0, 0.0])
    skill, low, high = brier_skill(p, gold, np.array([0, 0, 1, 1]))
    assert skill == pytest.approx(0.7)
    assert low == pytest.approx(0.5)
    assert high == pytest.approx(0.9)


def test_the_base_rate_has_no_skill():
    gold = np.array([1.0, 0.0, 0.0, 0.0])
    assert brier_skill(np.full(4, 0.25), gold, np.arange(4))[0] == pytest.approx(0.0)


def test_reliability_by_hand():
    """A probability of 1 belongs to the last bin; an empty bin is left out."""
    table = reliability(np.array([0.05, 0.08, 0.31, 1.0]), np.array([0.0, 1.0, 1.0, 1.0]))
    assert [row["from"] for row in table] == pytest.approx([0.0, 0.3, 0.9])
    assert [row["units"] for row in table] == [2, 1, 1]
    assert [row["mean_p"] for row in table] == pytest.approx([0.065, 0.31, 1.0])
    assert [row["rate"] for row in table] == [0.5, 1.0, 1.0]
