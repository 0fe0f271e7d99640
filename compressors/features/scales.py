"""Scales of values: standard scores, and log odds, so that the best probabilities stand apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_NEGLIGIBLE_SPREAD = 1e-9


def z_scores(
    values: Sequence[float] | NDArray[np.float64], epsilon: float | None = None
) -> NDArray[np.float64]:
    """Values with mean 0 and standard deviation 1 (of N, not N - 1): `[N]`; empty for no values.

    Args:
        epsilon: added to the deviation, so that equal values give 0 and nearly equal ones stay
            small: probes were fitted with 1e-6 and sums of units are made with 1e-9. None adds
            nothing; then all are 0 where the deviation is at most 1e-9 of the largest magnitude (or
            of 1, if that is larger).
    """
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return array
    spread = array.std()
    if epsilon is not None:
        return np.asarray((array - array.mean()) / (spread + epsilon))
    if spread <= _NEGLIGIBLE_SPREAD * max(1.0, float(np.abs(array).max(initial=0.0))):
        return np.zeros(len(array))
    return np.asarray((array - array.mean()) / spread)


def deviation(values: NDArray[np.float64]) -> float:
    """The standard deviation of all values (of N, not N - 1); 0 for none."""
    return float(np.std(values)) if len(values) else 0.0


def correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Pearson's correlation of two rows of values, -1 to 1; 0 where one of them does not vary."""
    return float((z_scores(first) * z_scores(second)).mean()) if len(first) else 0.0


def log_odds(probabilities: ArrayLike, margin: float) -> NDArray[np.float64]:
    """The log odds of probabilities, those of 0 and 1 included: `[N]`.

    Args:
        margin: probabilities are clipped to `[margin, 1 - margin]`.
    """
    clipped = np.asarray(probabilities, dtype=np.float64).clip(margin, 1 - margin)
    return np.asarray(np.log(clipped / (1 - clipped)))


def scalar_log_odds(probabilities: Sequence[float], margin: float) -> list[float]:
    """The same by `math.log`, value by value, for fused rankings.

    Two functions and not one: `np.log` differs from `math.log` in the last bit of one value in a
    thousand (with AVX-512), and published rankings were measured with this one.
    """
    clipped = (min(max(p, margin), 1 - margin) for p in probabilities)
    return [math.log(p / (1 - p)) for p in clipped]
