"""Fitting and calibrating a linear probe on labelled questions.

A question is a matrix of features, one row per unit, and a vector that marks the units that answer
it (gold units).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import Calibration

Array = NDArray[np.float64]
TEMPERATURE_L2 = 0.01
"""Weight of the squared logarithm of a domain's temperature, in all fits over domains."""


def check_l2(l2: float) -> None:
    """Checks the weight of the L2 penalty.

    Raises:
        BadInput: it is negative or not finite.
    """
    if not 0 <= l2 < math.inf:
        raise BadInput(f"l2 is {l2:g}; give a number from 0 on")


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """Features `[U, F]` fp32 of one question's units, and `gold [U]` bool: which answer it."""

    features: Tensor
    gold: Tensor

    def of_units(self, units: Tensor) -> LabelledFeatures:
        """Those of some units, by their indexes."""
        return LabelledFeatures(self.features[units], self.gold[units])


@dataclass(frozen=True, slots=True)
class _Stack:
    """All questions' units concatenated, with standardised features and the means to undo that."""

    features: Tensor
    gold: Tensor
    group: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def from_questions(cls, questions: Sequence[LabelledFeatures]) -> _Stack:
        if not questions:
            raise BadInput("no question has both a gold unit and another; nothing can be fitted")
        x = torch.cat([q.features for q in questions]).float()
        gold = torch.cat([q.gold for q in questions]).float()
        sizes = torch.tensor([len(q.gold) for q in questions])
        group = torch.repeat_interleave(torch.arange(len(questions)), sizes)
        mean, spread = x.mean(0), x.std(0).clamp_min(1e-6)
        return cls((x - mean) / spread, gold, group, mean, spread)


def fit_listwise(
    questions: Sequence[LabelledFeatures],
    l2: float = 0.01,
    steps: int = 80,
    domains: Sequence[str] | None = None,
) -> tuple[Tensor, float]:
    """Weights `[F]` under a softmax over the units of each question.

    The loss of a question is the mean over its gold units of -log softmax(score), so easy negatives
    cost nothing and every question has the same weight, however many units it has. `l2` is the
    factor of the squared norm of the weights of standardised features. Adding a constant to all
    scores of a question changes nothing, so the returned bias only centres the training scores.

    Args:
        domains: of each question. Every domain then has a temperature of its own while fitting,
            because some have sharper scores than others, and counts with the square root of its
            questions; None for one domain.
    """
    stack = _Stack.from_questions(questions)
    groups, size = len(questions), stack.features.shape[1]
    golds = torch.zeros(groups).index_add(0, stack.group, stack.gold)
    domain, weight = domain_weights(domains or [""] * groups)
    share = stack.gold / golds[stack.group].clamp_min(1) * weight[stack.group]
    free = int(domain.max()) + 1 if domains else 0

    def loss(parameters: Tensor) -> Tensor:
        w, temperatures = parameters[:size], parameters[size:]
        z = stack.features @ w
        if free:
            z = z * temperatures.exp()[domain][stack.group]
        penalty = l2 * w.square().sum() + TEMPERATURE_L2 * temperatures.square().sum()
        return listwise_loss(z, stack.group, share) + penalty

    return _undo_standardisation(_minimise(loss, size + free, steps)[:size], stack)


def listwise_loss(z: Tensor, group: Tensor, share: Tensor) -> Tensor:
    """The sum over units of their share times -log softmax of their score within their question.

    Args:
        z: scores, `[N]`. group: the number of each unit's question, `[N]`, from 0 without a gap.
        share: of each unit in the loss, `[N]`; 0 for units that are not gold.
    """
    groups = int(group.max()) + 1
    top = torch.full((groups,), -torch.inf).scatter_reduce(0, group, z.detach(), "amax")
    norm = torch.zeros(groups).index_add(0, group, (z - top[group]).exp()).log() + top
    return -(share * (z - norm[group])).sum()


def mean_listwise_loss(weights: Tensor, questions: Sequence[LabelledFeatures]) -> float:
    """The mean over questions of -log softmax of their gold units' scores by weights `[F]`."""
    losses = [-torch.log_softmax(q.features @ weights, 0)[q.gold].mean() for q in questions]
    return float(torch.stack(losses).mean())


def domain_weights(domains: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The number of each question's domain, `[Q]`, and its weight, `[Q]`; weights sum to 1.

    A domain counts with the square root of its questions.
    """
    names = sorted(set(domains))
    number = torch.tensor([names.index(domain) for domain in domains])
    weight = torch.bincount(number)[number].float().rsqrt()
    return number, weight / weight.sum()


def fit_logistic(
    questions: Sequence[LabelledFeatures], l2: float = 0.001, steps: int = 80
) -> tuple[Tensor, float]:
    """Weights `[F]` and bias of a logistic regression over single units with balanced classes."""
    stack = _Stack.from_questions(questions)
    ones = stack.gold.mean()
    weight = torch.where(stack.gold > 0, 0.5 / ones, 0.5 / (1 - ones))
    x = torch.cat([stack.features, torch.ones(len(stack.gold), 1)], 1)

    def loss(w: Tensor) -> Tensor:
        z = x @ w
        each = torch.nn.functional.binary_cross_entropy_with_logits(
            z, stack.gold, weight, reduction="mean"
        )
        return each + l2 * w[:-1].square().sum()

    w = _minimise(loss, x.shape[1], steps)
    weights, bias = _undo_standardisation(w[:-1], stack)
    return weights, bias + float(w[-1])


def _minimise(loss: object, size: int, steps: int) -> Tensor:
    w = torch.zeros(size, requires_grad=True)
    solver = torch.optim.LBFGS([w], max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        value: Tensor = loss(w)  # type: ignore[operator]
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return w.detach()


def _undo_standardisation(w: Tensor, stack: _Stack) -> tuple[Tensor, float]:
    weights = w / stack.spread
    return weights, -float(weights @ stack.mean)


def fit_calibration(
    scores: Sequence[Tensor],
    golds: Sequence[Tensor],
    absolute: bool = False,
    with_share: bool = False,
) -> Calibration:
    """Fits a logistic regression of gold on the score, the request's best score and logsumexp.

    Args:
        absolute: use the score alone, so that no passage affects the probability of another.
        with_share: also use the unit's share of the request (the softmax), unless it would lower
            the probability.

    Raises:
        BadInput: a higher score does not mean a higher probability.
    """
    columns = 1 if absolute else 3
    found, bias = _fit_logits(scores, golds, columns + with_share)
    if with_share and found[-1] < 0:
        found, bias = _fit_logits(scores, golds, columns)
    a, b, c, e = [*found, *[0.0] * (4 - len(found))]
    if a <= 0:
        raise BadInput(
            f"a higher score does not mean a better unit here (slope {a:.3g}); "
            "the probe fits nothing"
        )
    return Calibration(a, b, c, bias, e)


def _fit_logits(
    scores: Sequence[Tensor], golds: Sequence[Tensor], columns: int
) -> tuple[list[float], float]:
    """Weights of the first so many of score, best score, logsumexp and softmax; then the bias."""
    rows = [
        torch.stack([z, z.max().expand_as(z), torch.logsumexp(z, 0).expand_as(z), z.softmax(0)], 1)[
            :, :columns
        ]
        for z in scores
    ]
    questions = [LabelledFeatures(row, gold) for row, gold in zip(rows, golds, strict=True)]
    stack = _Stack.from_questions(questions)
    x = torch.cat([stack.features, torch.ones(len(stack.gold), 1)], 1)

    def loss(w: Tensor) -> Tensor:
        plain = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, stack.gold)
        return plain + 1e-6 * w[:-1].square().sum()

    w = _minimise(loss, x.shape[1], 200)
    weights, bias = _undo_standardisation(w[:-1], stack)
    return weights.tolist(), bias + float(w[-1])


def brier_skill(
    p: Array, gold: Array, group: NDArray[np.int64], draws: int = 1000
) -> tuple[float, float, float]:
    """1 - Brier / Brier of the base rate, with a 95 % interval by resampling whole questions."""
    rate = gold.mean()
    own, base = (
        _sum_per_question((p - gold) ** 2, group),
        _sum_per_question((rate - gold) ** 2, group),
    )
    chance = np.random.default_rng(0)
    picks = chance.integers(0, len(own), (draws, len(own)))
    drawn = 1 - own[picks].sum(1) / base[picks].sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(1 - own.sum() / base.sum()), float(low), float(high)


def _sum_per_question(values: Array, group: NDArray[np.int64]) -> Array:
    return np.asarray(np.bincount(group, weights=values), dtype=np.float64)


def reliability(p: Array, gold: Array, bins: int = 10) -> list[dict[str, float]]:
    """Per bin of probability: the number of units, their mean probability, and the gold rate."""
    bin_index = np.minimum((p * bins).astype(int), bins - 1)
    return [
        {
            "from": b / bins,
            "units": int(m.sum()),
            "mean_p": float(p[m].mean()),
            "rate": float(gold[m].mean()),
        }
        for b in range(bins)
        if (m := bin_index == b).any()
    ]


def auc(values: Array, gold: Array) -> float:
    """The probability that a gold unit scores above another unit, ties counting half."""
    from scipy.stats import rankdata

    ranks, ones = rankdata(values), gold.sum()
    return float((ranks[gold > 0].sum() - ones * (ones + 1) / 2) / (ones * (len(gold) - ones)))
