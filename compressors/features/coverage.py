"""What a result promises: all the evidence with a given probability, or that there is none.

Coverage is split conformal prediction (Vovk et al. 2005; Lei et al. 2018, §2.2) with the lowest
probability of a question's gold units as its score: of n calibration questions, the threshold is
the k-th lowest such score, k = ⌊(1 - coverage)(n + 1)⌋. A new question like those keeps all its
evidence with at least that probability. Nothing is promised on data unlike the calibration's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tamis.compressors.method import Scorer
from tamis.compressors.types import Budget, Rules, Scores
from tamis.probes.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

_EVEN_ODDS = 0.5


def conformal_threshold(lowest: Tensor, coverage: float) -> float:
    """The probability down to which units must be kept; 0, which keeps everything, if n is small.

    Args:
        lowest: `[n]`, per calibration question the lowest probability of its gold units.
        coverage: how often all the evidence shall be kept.
    """
    # (1 - 0.9) * 10 is 0.9999999999999998: a hair's breadth is forgiven
    k = math.floor((1 - coverage) * (len(lowest) + 1) + 1e-9)
    return float(sorted(lowest.tolist())[k - 1]) if k else 0.0


def resolve_coverage(budget: Budget, scorer: Scorer, name: str) -> Budget:
    """A coverage as the threshold that the method's calibration gives it; others as they are.

    Raises:
        BadInput: the method promises no coverage.
    """
    if budget.coverage is None:
        return budget
    threshold = scorer.coverage_threshold(budget.coverage)
    if threshold is None:
        raise no_coverage(name)
    return replace(budget, coverage=None, threshold=threshold)


def no_coverage(name: str) -> BadInput:
    """The error where a coverage is asked of a method that has no calibration for it."""
    return BadInput(
        f"{name} has no calibrated coverage here; give max_tokens, ratio or threshold, use "
        "question_rows with its probe, or calibrate your own: tamis probe calibrate"
    )


def check_threshold(budget: Budget, scores: Scores, name: str) -> None:
    """Refuses a threshold on scores that are no probabilities."""
    if budget.threshold is not None and not scores.calibrated:
        raise BadInput(
            f"{name} gives no probabilities here, so a threshold means nothing; "
            "give max_tokens or ratio, or a method with a calibrated probe"
        )


def is_unanswerable(scores: Scores, rules: Rules, name: str) -> bool:
    """Whether the context counts as holding no answer, and something is to be done about it.

    A unit that answers with even odds or better is an answer, whatever is said of the whole: in
    contexts far shorter than those of the fit answerability is too low.

    Raises:
        BadInput: a policy that does not exist, or a method that cannot tell.
    """
    if rules.unanswerable == "best_effort":
        return False
    if scores.answerability is None:
        raise BadInput(
            f"{name} cannot tell whether the context holds an answer; leave unanswerable at "
            "best_effort, or use question_rows with its probe"
        )
    likely = scores.calibrated and max(scores.values, default=0.0) >= _EVEN_ODDS
    return scores.answerability < rules.answerable_floor and not likely


def check_unanswerable(rules: Rules) -> None:
    """Refuses a policy that does not exist, before any model runs."""
    policies = ("best_effort", "nothing", "pass_through")
    if rules.unanswerable not in policies:
        raise BadInput(f"unanswerable is {rules.unanswerable!r}; give {', '.join(policies)}")
    if not 0 <= rules.answerable_floor <= 1:
        raise BadInput(
            f"answerable_floor is {rules.answerable_floor}; give a probability from 0 to 1"
        )


def unanswerable_warning(rules: Rules, scores: Scores) -> str:
    """What the result's warning says."""
    did = "nothing was kept" if rules.unanswerable == "nothing" else "it was passed through whole"
    return (
        f"answerability is {scores.answerability:.2f}, below {rules.answerable_floor:g}: "
        f"the context seems to hold no answer, so {did}"
    )
