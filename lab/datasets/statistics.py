"""Confidence intervals of differences: the paired bootstrap (Efron, Tibshirani 1993, ch. 16)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput

Figures = NDArray[np.float64]
DRAWS = 2_000


def paired_bootstrap(
    a_num: Any, b_num: Any, den: Any, draws: int = DRAWS, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The difference of two ratios over the same records, and its confidence interval.

    The statistic is `sum(a_num) / sum(den) - sum(b_num) / sum(den)`. Records are drawn with
    replacement, both methods' figures of a record together; the interval is between the
    percentiles 2.5 and 97.5, or whichever `confidence` says.

    Args:
        a_num, b_num: one number per record for each method, such as gold sentences kept: `[R]`.
        den: what both are a share of, such as gold sentences: `[R]`, above 0.

    Returns:
        difference, low, high. The same seed gives the same interval.

    Raises:
        BadInput: no records, different lengths, a denominator that is not above 0, or no draws.
    """
    a, b, of = (np.asarray(x, dtype=np.float64) for x in (a_num, b_num, den))
    _check(a, b, of, draws)
    counts = _draw_counts(len(of), draws, seed)
    statistics = (counts @ (a - b)) / (counts @ of)
    low, high = np.percentile(statistics, (50 * (1 - confidence), 50 * (1 + confidence)))
    return float((a - b).sum() / of.sum()), float(low), float(high)


def paired_interval(
    a_num: Any,
    b_num: Any,
    den: Any,
    draws: int = DRAWS,
    seed: int = 0,
    confidence: float = 0.95,
    name: str = "difference",
) -> dict[str, float]:
    """As `paired_bootstrap`, by name: `difference`, or whatever `name` says, `low` and `high`."""
    found = paired_bootstrap(a_num, b_num, den, draws, seed, confidence)
    return dict(zip((name, "low", "high"), found, strict=True))


def spread_bootstrap(
    nums: Sequence[Any], den: Any, draws: int = DRAWS, seed: int = 0, confidence: float = 0.95
) -> tuple[float, float, float]:
    """The largest less the smallest of several ratios over the same records, and its interval.

    The spread is never below 0, and above it even where all ratios differ by chance alone: compare
    a bound with the upper end.

    Args:
        nums: per condition one number per record: `[C][R]`. den: what all are a share of: `[R]`.

    Returns:
        spread, low, high. Records are drawn as for `paired_bootstrap`.

    Raises:
        BadInput: as for `paired_bootstrap`, or no condition.
    """
    if not len(nums):
        raise BadInput("there is no condition to compare; give at least one")
    ratios, of = np.asarray(nums, dtype=np.float64), np.asarray(den, dtype=np.float64)
    for row in ratios:
        _check(row, row, of, draws)
    counts = _draw_counts(len(of), draws, seed)
    statistics = (counts @ ratios.T) / (counts @ of)[:, None]
    low, high = np.percentile(
        np.ptp(statistics, axis=1), (50 * (1 - confidence), 50 * (1 + confidence))
    )
    return float(np.ptp(ratios.sum(1) / of.sum())), float(low), float(high)


def _draw_counts(records: int, draws: int, seed: int) -> Figures:
    """How often each record is in each draw: `[draws, records]`; rows sum to `records`."""
    chance = np.random.default_rng(seed)
    return chance.multinomial(records, np.full(records, 1 / records), size=draws).astype(np.float64)


def _check(a: Figures, b: Figures, den: Figures, draws: int) -> None:
    if den.ndim != 1 or not len(den) or a.shape != den.shape or b.shape != den.shape:
        raise BadInput(
            f"got figures of shapes {a.shape}, {b.shape} and {den.shape}; "
            "give one number a record each, for the same records, at least one"
        )
    if not (den > 0).all():
        raise BadInput(
            f"{int((den <= 0).sum())} of {len(den)} denominators are not above 0; "
            "leave those records out"
        )
    if draws < 1:
        raise BadInput(f"draws is {draws}; give at least 1")


def rank_correlations(a: Any, b: Any, of_constant: float = 0.0) -> list[float]:
    """Spearman's rank correlation of each row of two `[B, U]`, ties averaged.

    Args:
        a, b: arrays or tensors on the CPU.
        of_constant: what stands for rows of which one does not vary.
    """
    from scipy.stats import rankdata

    ranks = [rankdata(np.asarray(x, dtype=np.float64), axis=-1) for x in (a, b)]
    centred = [r - r.mean(-1, keepdims=True) for r in ranks]
    norms = np.prod([np.linalg.norm(r, axis=-1) for r in centred], axis=0)
    products = (centred[0] * centred[1]).sum(-1)
    return [float(x / n) if n else of_constant for x, n in zip(products, norms, strict=True)]
