"""Two rankings as one: reciprocal ranks, or a weighted sum of standardised scores.

Sources: reciprocal rank fusion, Cormack, Clarke, Büttcher, SIGIR 2009; sums of standardised scores,
Fox & Shaw 1994 (CombSUM).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.checks import is_number
from tamis.probes.errors import BadInput

FirstStage = Sequence[float] | Literal["order"]
Fuse = Literal["rrf", "fitted"] | float

RRF_K = 60
"""As in the paper; it says how little the very first ranks stand out."""

FITTED = {"question_rows": 0.7, "fusion": 0.9}
"""The weight of a method's own scores beside a first stage's, fitted on training claims and BM25
lists (LOG.md); the first stage has the rest."""
FITTED_ELSE = 0.5
_TINY = 1e-9
_LEAST = 1e-9


def first_scores(given: Any, documents: int, fuse: Any) -> tuple[float, ...] | None:
    """The first stage's score of each document, higher is better; None where there is none.

    Args:
        given: scores, or `"order"`: then the scores are 0, -1, -2, ...

    Raises:
        BadInput: not a finite number a document, a way to fuse that is none, or nothing to fuse
            with.
    """
    check_fuse(fuse)
    if given is None:
        if fuse is not None:
            raise BadInput(f"fuse is {fuse!r} and there is no first_stage; give its scores, too")
        return None
    if isinstance(given, str):
        if given != "order":
            raise BadInput(f"first_stage is {given!r}; give a score a document, or 'order'")
        return tuple(0.0 - rank for rank in range(documents))
    if isinstance(given, Mapping | Set | bytes) or not isinstance(given, Iterable):
        raise BadInput(
            f"first_stage is of type {type(given).__name__}; give a list of scores in the order "
            "of the documents, or 'order'"
        )
    scores = [_number(value, i) for i, value in enumerate(given)]
    if len(scores) != documents:
        raise BadInput(
            f"first_stage has {len(scores)} scores for {documents} documents; give one each"
        )
    return tuple(scores)


def _number(value: Any, index: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"first_stage score {index} is {value!r:.80}; give a number") from error
    if not math.isfinite(number):
        raise BadInput(f"first_stage score {index} is {value!r}; give a finite number")
    return number


def fuse_ranks(
    own: Sequence[float],
    first: Sequence[float],
    fuse: Fuse | None,
    method: str,
    calibrated: bool = False,
) -> list[float]:
    """One score a document of two, both higher for better.

    Args:
        fuse: `"rrf"` sums reciprocal ranks; a number from 0 to 1 is the weight of `own` in a sum of
            standardised scores, 1 - it that of `first`; `"fitted"` and None take the weight that
            was fitted for the method.
        calibrated: `own` are probabilities, summed as log odds, so that the best stand apart.

    Raises:
        BadInput: another `fuse`.

    Returns:
        The sums. Minus infinity of `own`, of a document without text, stays: no first stage lifts
        what holds nothing above what may answer, and the others are joined as if it were not there.
    """
    check_fuse(fuse)
    there = [i for i, value in enumerate(own) if value > -math.inf]
    total = [-math.inf] * len(own)
    mine, theirs = [own[i] for i in there], [first[i] for i in there]
    for i, score in zip(there, _joined(mine, theirs, fuse, method, calibrated), strict=True):
        total[i] = score
    return total


def check_fuse(fuse: Any) -> None:
    """BadInput: neither `rrf`, `fitted`, None nor a weight from 0 to 1."""
    if fuse is None or (isinstance(fuse, str) and fuse in ("rrf", "fitted")):
        return
    if not (is_number(fuse) and 0 <= fuse <= 1):
        raise BadInput(f"fuse is {fuse!r:.80}; give 'rrf', 'fitted', or a weight from 0 to 1")


def _joined(
    own: Sequence[float], first: Sequence[float], fuse: Fuse | None, method: str, calibrated: bool
) -> list[float]:
    if fuse == "rrf":
        return [a + b for a, b in zip(_reciprocal(own), _reciprocal(first), strict=True)]
    weight = FITTED.get(method, FITTED_ELSE) if fuse in (None, "fitted") else fuse
    assert not isinstance(weight, str)
    mixed = weight * z_scores(to_log_odds(own) if calibrated else own) + (1 - weight) * z_scores(
        first
    )
    return [float(score) for score in mixed]


def _reciprocal(scores: Sequence[float]) -> list[float]:
    """1 / (60 + rank), the best has rank 1; documents that tie share the best of their ranks."""
    ordered = sorted(scores, reverse=True)
    ranks = {score: rank for rank, score in reversed(list(enumerate(ordered, 1)))}
    return [1 / (RRF_K + ranks[score]) for score in scores]


def to_log_odds(probabilities: Sequence[float]) -> list[float]:
    """Probabilities as log odds, so that the best ones stand apart."""
    clipped = (min(max(p, _LEAST), 1 - _LEAST) for p in probabilities)
    return [math.log(p / (1 - p)) for p in clipped]


def z_scores(scores: Sequence[float]) -> NDArray[np.float64]:
    """Scores with mean 0 and deviation 1 within the request; all 0 where all are equal."""
    values = np.asarray(scores, dtype=np.float64)
    spread = values.std() if len(values) else 0.0
    if spread <= _TINY * max(1.0, float(np.abs(values).max(initial=0.0))):
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / spread)
