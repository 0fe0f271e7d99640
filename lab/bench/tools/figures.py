"""Figures of a table from rows: labels kept, rules broken, time; by kind of output and over all."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tamis_lab.bench.tools.tally import ToolRow
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

Interval = dict[str, float]


def tool_figures(rows: Sequence[ToolRow], seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """By ratio: for each compressor the figures over all outputs, and by kind.

    The first compressor of the rows is the one that others are compared with, output by output.
    """
    return {
        f"{ratio:g}": _ratio_figures([row for row in rows if row.ratio == ratio], seed, draws)
        for ratio in dict.fromkeys(row.ratio for row in rows)
    }


def _ratio_figures(rows: Sequence[ToolRow], seed: int, draws: int) -> dict[str, Any]:
    by_name: dict[str, list[ToolRow]] = {}
    for row in rows:
        by_name.setdefault(row.compressor, []).append(row)
    reference, base = next(iter(by_name.items()))
    kinds = sorted({row.kind for row in rows})
    return {
        "reference": reference,
        "outputs": len(base),
        "kinds": {kind: sum(row.kind == kind for row in base) for kind in kinds},
        "compressors": {
            name: _summary(own, seed, draws)
            | ({} if name == reference else {"reference_ahead": _lead(base, own, seed, draws)})
            | {"kinds": {k: _summary([r for r in own if r.kind == k], seed, draws) for k in kinds}}
            for name, own in by_name.items()
        },
    }


def _summary(rows: Sequence[ToolRow], seed: int, draws: int) -> dict[str, Any]:
    gold, kept = [row.gold for row in rows], _gold_kept(rows)
    violations: Counter[str] = Counter()
    for row in rows:
        violations.update(row.violations)
    return {
        "gold": sum(gold),
        "gold_kept": _interval(kept, [0] * len(rows), gold, seed, draws),
        "gold_in_any_words": (sum(kept) + sum(row.gold_reworded for row in rows)) / sum(gold),
        "all_gold_kept": statistics.fmean(not row.gold_lost for row in rows),
        "errors": sum(row.errors for row in rows),
        "errors_lost": sum(len(row.errors_lost) for row in rows),
        "outputs_with_lost_errors": sum(bool(row.errors_lost) for row in rows),
        "violations": dict(sorted(violations.items())),
        "outputs_with_violations": sum(any(row.violations.values()) for row in rows),
        "empty": sum(not row.shown.strip() for row in rows),
        "failed": sum(row.error is not None for row in rows),
        "over_limit": sum(row.tokens_out > row.limit for row in rows),
        "tokens_kept": sum(r.tokens_out for r in rows) / max(1, sum(r.tokens_in for r in rows)),
        "ms_p50": statistics.median(row.ms for row in rows),
        "ms_p95": float(np.percentile([row.ms for row in rows], 95)),
    }


def _gold_kept(rows: Sequence[ToolRow]) -> list[int]:
    return [row.gold - len(row.gold_lost) for row in rows]


def _lead(base: Sequence[ToolRow], own: Sequence[ToolRow], seed: int, draws: int) -> Interval:
    """How much more of the gold the reference keeps, over the outputs that both have."""
    by_id = {(row.kind, row.id): row for row in base}
    pairs = [(by_id[row.kind, row.id], row) for row in own if (row.kind, row.id) in by_id]
    theirs = _gold_kept([row for _, row in pairs])
    gold = [row.gold for row, _ in pairs]
    return _interval(_gold_kept([row for row, _ in pairs]), theirs, gold, seed, draws)


def _interval(
    ours: Sequence[int], theirs: Sequence[int], gold: Sequence[int], seed: int, draws: int
) -> Interval:
    """The difference in shares of gold kept, and its 95 % interval over outputs."""
    found = paired_bootstrap(ours, theirs, gold, draws, seed)
    return dict(zip(("value", "low", "high"), found, strict=True))
