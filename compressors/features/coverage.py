"""What a result promises: all the evidence with a given probability, or a warning that it has none.

Coverage is split conformal prediction (Vovk et al. 2005; Lei et al. 2018, §2.2) with the lowest
probability of a question's gold units as its score: of n calibration questions, the threshold is
the k-th lowest such score, k = ⌊(1 - coverage)(n + 1)⌋, at most n. A new question like those keeps
all its evidence with at least that probability. Nothing is promised for data unlike the
calibration's.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from tamis.compressors.method import Scorer
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor


def conformal_threshold(lowest: Tensor, coverage: float) -> float:
    """The lowest probability that a unit to keep may have; 0, which keeps all, if n is too small.

    Args:
        lowest: `[n]`, per calibration question the lowest probability of its gold units.
        coverage: the share of questions whose evidence shall be kept whole.
    """
    # (1 - 0.9) * 10 is 0.9999999999999998: rounding errors are forgiven
    k = min(math.floor((1 - coverage) * (len(lowest) + 1) + 1e-9), len(lowest))
    return float(sorted(lowest.tolist())[k - 1]) if k else 0.0


def resolve_coverage(budget: Budget, scorer: Scorer, name: str) -> Budget:
    """The budget with a coverage turned into a threshold by the method's calibration.

    A budget without a coverage stays as it is.

    Raises:
        BadInput: the method promises no coverage.
    """
    if budget.coverage is None:
        return budget
    threshold = scorer.coverage_threshold(budget.coverage)
    if threshold is None:
        raise no_coverage_error(name)
    return replace(budget, coverage=None, threshold=threshold)


def unlike_warning(coverage: float | None) -> str:
    """The warning of a request that is unlike those that the probabilities were fitted on."""
    action = (
        "" if coverage is None else f", and coverage {coverage:g} is kept as on the hardest one"
    )
    return (
        "these passages are unlike those that scores were fitted on, so probabilities are rough: "
        f"compare with other methods, or calibrate on your own (tamis lab probe calibrate){action}"
    )


def no_coverage_error(name: str) -> BadInput:
    """The error for a coverage where the method has no calibration for one."""
    return BadInput(
        f"{name} has no calibrated coverage here; give max_tokens, ratio or threshold, use "
        "question_rows with its probe, or calibrate your own: tamis lab probe calibrate"
    )


def check_threshold(budget: Budget, scores: Scores, name: str) -> None:
    """Refuses a threshold on scores that are not probabilities.

    Raises:
        BadInput: a threshold was given for such scores.
    """
    if budget.threshold is not None and not scores.calibrated:
        raise BadInput(
            f"{name} gives no probabilities here, so a threshold means nothing; "
            "give max_tokens or ratio, or a method with a calibrated probe"
        )


def is_unanswerable(scores: Scores, rules: Rules, name: str) -> bool:
    """Whether the context counts as holding no answer and `rules.unanswerable` acts on it.

    Its units' probabilities have no part in it: they are those of contexts that hold an answer, and
    some unit is always the best.

    Raises:
        BadInput: a policy was given, and the method cannot tell.
    """
    if rules.unanswerable == "best_effort":
        return False
    if scores.answerability is None:
        raise BadInput(
            f"{name} cannot tell whether the context holds an answer; leave unanswerable at "
            "best_effort, or use question_rows with its probe"
        )
    return scores.answerability < rules.answerable_floor


def unanswerable_warning(rules: Rules, scores: Scores) -> str:
    """The warning of a result whose context seems to hold no answer."""
    action = (
        "nothing was kept" if rules.unanswerable == "nothing" else "it was passed through whole"
    )
    return (
        f"answerability is {scores.answerability:.2f}, below {rules.answerable_floor:g}: "
        f"the context seems to hold no answer, so {action}"
    )
