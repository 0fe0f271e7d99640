"""Two rankings as one: reciprocal ranks, or a weighted sum of standardised scores.

Sources: reciprocal rank fusion, Cormack, Clarke, Büttcher, SIGIR 2009; sums of standardised scores,
Fox & Shaw 1994 (CombSUM).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, Literal

from tamis.compressors import registry
from tamis.compressors.features.scales import scalar_log_odds, z_scores
from tamis.compressors.method import Method
from tamis.probes.errors import BadInput
from tamis.text.inputs import is_number

FirstStage = Sequence[float] | Literal["order"]
FusionMode = Literal["rrf", "fitted"] | float

RRF_K = 60
"""As in the paper; the larger it is, the less the very first ranks stand out."""
_MIN_PROBABILITY = 1e-9


def first_scores(given: Any, documents: int, fuse: Any) -> tuple[float, ...] | None:
    """The first stage's score of each document, higher is better; None where there is none.

    Args:
        given: scores, or `"order"`: then the scores are 0, -1, -2, ...

    Raises:
        BadInput: not one finite number for each document, an unknown `fuse`, or a `fuse` without
            a first stage.
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
    scores = [_finite_number(value, i) for i, value in enumerate(given)]
    if len(scores) != documents:
        raise BadInput(
            f"first_stage has {len(scores)} scores for {documents} documents; give one each"
        )
    return tuple(scores)


_LARGEST_SCORE = 1e100  # its square is finite, too


def _finite_number(value: Any, index: int) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"first_stage score {index} is {value!r:.80}; give a number") from error
    if not math.isfinite(number) or abs(number) > _LARGEST_SCORE:
        raise BadInput(
            f"first_stage score {index} is {value!r}; give a finite number of at most "
            f"{_LARGEST_SCORE:g}"
        )
    return number


def fuse_ranks(
    own: Sequence[float],
    first: Sequence[float],
    fuse: FusionMode | None,
    method: str,
    calibrated: bool = False,
) -> list[float]:
    """Combines two scores of each document into one; higher is better.

    Args:
        fuse: `"rrf"` sums reciprocal ranks; a number from 0 to 1 is the weight of `own` in a sum of
            standardised scores, 1 - it that of `first`; `"fitted"` and None take the weight that
            was fitted for the method.
        calibrated: `own` are probabilities; they are summed as log odds, so that the best stand
            apart.

    Raises:
        BadInput: another `fuse`.

    Returns:
        The sums. Where `own` is minus infinity, a document without text, the sum is, too: no first
        stage lifts it above the others, which are fused as if it were not there.
    """
    check_fuse(fuse)
    with_text = [i for i, value in enumerate(own) if value > -math.inf]
    own_values, first_values = [own[i] for i in with_text], [first[i] for i in with_text]
    if fuse == "rrf":
        ranks = zip(_reciprocal_ranks(own_values), _reciprocal_ranks(first_values), strict=True)
        combined = [a + b for a, b in ranks]
    else:
        weight = _first_stage_weight(method) if fuse in (None, "fitted") else fuse
        assert not isinstance(weight, str)
        if calibrated:
            own_values = scalar_log_odds(own_values, _MIN_PROBABILITY)
        mixed = weight * z_scores(own_values) + (1 - weight) * z_scores(first_values)
        combined = mixed.tolist()
    total = [-math.inf] * len(own)
    for i, score in zip(with_text, combined, strict=True):
        total[i] = score
    return total


def check_fuse(fuse: Any) -> None:
    """Refuses what is neither `rrf`, `fitted`, None nor a weight from 0 to 1.

    Raises:
        BadInput: it is none of these.
    """
    if fuse is None or (isinstance(fuse, str) and fuse in ("rrf", "fitted")):
        return
    if not (is_number(fuse) and 0 <= fuse <= 1):
        raise BadInput(f"fuse is {fuse!r:.80}; give 'rrf', 'fitted', or a weight from 0 to 1")


def _first_stage_weight(method: str) -> float:
    """The weight of a method's own scores, as its class has it; the default for other names."""
    if method not in registry.method_names(None):
        return Method.first_stage_weight
    weight: float = registry.method_class(method).first_stage_weight
    return weight


def _reciprocal_ranks(scores: Sequence[float]) -> list[float]:
    """1 / (60 + rank), the best has rank 1; documents that tie share the best of their ranks."""
    ordered = sorted(scores, reverse=True)
    ranks = {score: rank for rank, score in reversed(list(enumerate(ordered, 1)))}
    return [1 / (RRF_K + ranks[score]) for score in scores]
