"""Two rankings as one: reciprocal ranks, or a weighted sum of standardised scores.

Sources: reciprocal rank fusion, Cormack, Clarke, Büttcher, SIGIR 2009; sums of standardised scores,
Fox & Shaw 1994 (CombSUM).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput

FirstStage = Sequence[float] | Literal["order"]
Fuse = Literal["rrf", "fitted"] | float

RRF_K = 60
"""As in the paper; it says how little the very first ranks stand out."""

FITTED = {"question_rows": 0.7}
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
        BadInput: not a finite number a document, or a way to fuse and nothing to fuse with.
    """
    if given is None:
        if fuse is not None:
            raise BadInput(f"fuse is {fuse!r} and there is no first_stage; give its scores, too")
        return None
    if isinstance(given, str):
        if given != "order":
            raise BadInput(f"first_stage is {given!r}; give a score a document, or 'order'")
        return tuple(0.0 - rank for rank in range(documents))
    scores = [_number(value, i) for i, value in enumerate(given)]
    if len(scores) != documents:
        raise BadInput(
            f"first_stage has {len(scores)} scores for {documents} documents; give one each"
        )
    return tuple(scores)


def _number(value: Any, index: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"first_stage score {index} is {value!r}; give a number") from error
    if not math.isfinite(number):
        raise BadInput(f"first_stage score {index} is {value!r}; give a finite number")
    return number


def fused(
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
            Minus infinity, of a document without text, counts as the lowest of the others.

    Raises:
        BadInput: another `fuse`.
    """
    if fuse == "rrf":
        return [a + b for a, b in zip(_reciprocal(own), _reciprocal(first), strict=True)]
    weight = FITTED.get(method, FITTED_ELSE) if fuse in (None, "fitted") else fuse
    if isinstance(weight, str | bool) or not 0 <= weight <= 1:
        raise BadInput(f"fuse is {fuse!r}; give 'rrf', 'fitted', or a weight from 0 to 1")
    least = min((value for value in own if value > -math.inf), default=0.0)
    own = [max(value, least) for value in own]
    mixed = weight * standard(opened(own) if calibrated else own) + (1 - weight) * standard(first)
    return [float(score) for score in mixed]


def _reciprocal(scores: Sequence[float]) -> list[float]:
    """1 / (60 + rank), the best has rank 1; documents that tie share the best of their ranks."""
    ordered = sorted(scores, reverse=True)
    ranks = {score: rank for rank, score in reversed(list(enumerate(ordered, 1)))}
    return [1 / (RRF_K + ranks[score]) for score in scores]


def opened(probabilities: Sequence[float]) -> list[float]:
    """Probabilities as log odds, so that the best ones stand apart."""
    clipped = (min(max(p, _LEAST), 1 - _LEAST) for p in probabilities)
    return [math.log(p / (1 - p)) for p in clipped]


def standard(scores: Sequence[float]) -> NDArray[np.float64]:
    """Scores with mean 0 and deviation 1 within the request; all 0 where all are equal."""
    values = np.asarray(scores, dtype=np.float64)
    spread = values.std() if len(values) else 0.0
    if spread <= _TINY * max(1.0, float(np.abs(values).max(initial=0.0))):
        return np.zeros(len(values))
    return np.asarray((values - values.mean()) / spread)
