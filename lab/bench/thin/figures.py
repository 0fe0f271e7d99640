"""The figures of `tamis lab bench thin`: one row a candidate, each set apart, and the verdict."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tamis_lab.bench.attention.depth_figures import pool_tallies
from tamis_lab.bench.evidence.tally import EvidenceTally
from tamis_lab.bench.thin.candidates import Candidate
from tamis_lab.bench.thin.panel import DENSE, Measures
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

HARMLESS = 0.01
"""The share of gold sentences that a harmless candidate may lose, at the interval's upper end."""
WITHIN = 0.005
"""The share that it may lose on every set, as measured."""


def thin_figures(
    tallies: Mapping[str, EvidenceTally],
    candidates: Sequence[Candidate],
    measures: Mapping[str, Measures],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """One row per candidate, as JSON."""
    pooled, rows = pool_tallies(tallies), []
    for candidate in candidates:
        name, own = candidate.name, measures[candidate.name]
        budgets = _losses(pooled, name, seed, draws)
        sets = {of: _losses(counts, name, seed, draws) for of, counts in tallies.items()}
        rows.append(
            {
                "candidate": name,
                "policy": candidate.policy,
                "share": candidate.share,
                "stand_in": candidate.stand_in,
                "mass": statistics.fmean(own.mass),
                "output_error": statistics.fmean(own.output_error),
                "unit_rho": statistics.fmean(own.unit_rho) if own.unit_rho else 1.0,
                "unit_rho_p5": float(np.percentile(own.unit_rho, 5)) if own.unit_rho else 1.0,
                "bytes_exact": own.bytes_exact / own.tokens,
                "bytes_int8": own.bytes_int8 / own.tokens,
                "fill_ms": statistics.fmean(own.fill_ms),
                "warm_ms": statistics.fmean(own.warm_ms),
                "budgets": budgets,
                "sets": sets,
                "harmless": all(cell["high"] <= HARMLESS for cell in budgets.values()),
                "within": all(
                    cell["lost"] <= WITHIN for cells in sets.values() for cell in cells.values()
                ),
            }
        )
    return rows


def _losses(counts: EvidenceTally, name: str, seed: int, draws: int) -> dict[str, Any]:
    """By budget: gold kept, and how much more the dense pass keeps, with its interval."""
    cells = {}
    for budget, outcome in counts.outcomes[name].items():
        base = counts.outcomes[DENSE][budget].gold_kept
        lost = paired_bootstrap(base, outcome.gold_kept, counts.gold, draws, seed)
        kept = {"gold_kept": sum(outcome.gold_kept) / sum(counts.gold)}
        cells[f"{budget:g}"] = kept | dict(zip(("lost", "low", "high"), lost, strict=True))
    return cells


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The smallest entry that loses at most `WITHIN` on every set, in a line."""
    fitting = [
        (min(row["bytes_exact"], row["bytes_int8"]), row["candidate"])
        for row in rows
        if row["within"]
    ]
    if not fitting:
        return f"No candidate loses at most {WITHIN:g} of the evidence on every set."
    size, name = min(fitting)
    return (
        f"The smallest entry that loses at most {WITHIN:g} of the evidence on every set: {name}, "
        f"{size:,.0f} bytes a token."
    )
