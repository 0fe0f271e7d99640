"""The comparison of patterns: prompts of every length, every pattern at every share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head, HeadProfile
from tamis_lab.bench.prefill.measure import (
    PromptFigures,
    dense_reference,
    measure_pattern,
)
from tamis_lab.bench.prefill.prompts import LongPrompt, PromptBuilder
from tamis_lab.datasets.record_files import RecordFile, ReportProgress, answerable_records
from tamis_lab.datasets.statistics import paired_bootstrap
from tamis_lab.methods.patterns.echo import layer_similarity
from tamis_lab.methods.prefill.contract import Pattern
from tamis_lab.methods.prefill.prefill_pass import prefill
from tamis_lab.methods.registry import PATTERNS

HEADS = 8
"""The heads of the contrast profile whose mean ranks the units."""
CALIBRATION, CALIBRATION_TOKENS = 4, 512
"""How many prompts of how many tokens the similarity of layers is measured on, from the last record
on, so that they are other than the judged ones where there are enough records."""
DENSE = "dense"


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """What is compared.

    Attributes:
        tokens: lengths of prompts. prompts: how many of each. shares: that patterns are built with.
        budgets: shares of the tokens at which gold is counted.
    """

    patterns: tuple[str, ...]
    tokens: tuple[int, ...]
    prompts: tuple[int, ...]
    shares: tuple[float, ...]
    budgets: tuple[float, ...]
    layers: int
    seed: int


def compare_patterns(
    proxy: Any, file: RecordFile, plan: PrefillPlan, report: ReportProgress
) -> dict[str, Any]:
    """The table as JSON: `rows`, and the `similarity` of layers, `[L, L]`.

    Raises:
        UnknownMethod: no such pattern. BadInput: too few records, or no profile of heads.
    """
    classes = {name: PATTERNS.load(name) for name in plan.patterns}
    builder = PromptBuilder(proxy.layout, answerable_records(file), plan.layers, plan.seed)
    prompts = {
        length: builder.build_many(length, count)
        for length, count in zip(plan.tokens, plan.prompts, strict=True)
    }
    similarity = measure_similarity(proxy, builder, min(CALIBRATION_TOKENS, *plan.tokens), report)
    made = {
        (name, share): kind(share, similarity)
        for name, kind in classes.items()
        for share in plan.shares
    }
    heads = ranking_heads(proxy, plan.layers)
    rows = []
    for length, of in prompts.items():
        step = partial(report, f"{length:,} tokens")
        figures = _measure_all(proxy, of, made, heads, plan.budgets, step)
        golds = [int(prompt.gold.sum()) for prompt in of]
        rows += [
            {"tokens": length, "pattern": name, "share": share}
            | summarise(found, figures[DENSE, 1.0], golds, plan)
            for (name, share), found in figures.items()
        ]
    return {"rows": rows, "similarity": [[round(x, 4) for x in row] for row in similarity.tolist()]}


def _measure_all(
    proxy: Any,
    prompts: Sequence[LongPrompt],
    made: Mapping[tuple[str, float], Pattern],
    heads: Sequence[Head],
    budgets: Sequence[float],
    report: Callable[[int, int], None],
) -> dict[tuple[str, float], list[PromptFigures]]:
    """The figures of the dense pass and of every pattern on every prompt."""
    found: dict[tuple[str, float], list[PromptFigures]] = {(DENSE, 1.0): []}
    found |= {key: [] for key in made}
    for done, prompt in enumerate(prompts, 1):
        dense = dense_reference(proxy, prompt)
        for key, pattern in [((DENSE, 1.0), None), *made.items()]:
            found[key].append(measure_pattern(proxy, prompt, pattern, dense, heads, budgets))
        report(done, len(prompts))
    return found


def summarise(
    found: Sequence[PromptFigures],
    dense: Sequence[PromptFigures],
    golds: Sequence[int],
    plan: PrefillPlan,
) -> dict[str, Any]:
    """Means over prompts of one pattern's figures.

    Args:
        golds: gold units of each prompt.
    """
    rhos = [rho for one in found for rho in one.unit_rhos]
    kept = {
        f"{share:g}": round(sum(one.kept[share] for one in found) / sum(golds), 4)
        for share in plan.budgets
    }
    ahead = {
        f"{share:g}": [
            round(x, 4)
            for x in paired_bootstrap(
                [one.kept[share] for one in found],
                [one.kept[share] for one in dense],
                golds,
                seed=plan.seed,
            )
        ]
        for share in plan.budgets
    }
    return {
        "prompts": len(found),
        "density": _mean([one.density for one in found]),
        "coverage": _mean([one.coverage for one in found]),
        "least_coverage": _mean([one.least_coverage for one in found]),
        "hidden_error": _mean([one.hidden_error for one in found]),
        "unit_rho": _mean(rhos) if rhos else None,
        "unit_rho_5th": round(float(np.percentile(rhos, 5)), 4) if rhos else None,
        "kept": kept,
        "ahead_of_dense": ahead,
        "ms": _mean([one.ms for one in found]),
        "ms_dense": _mean([one.ms for one in dense]),
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def measure_similarity(
    proxy: Any, builder: PromptBuilder, tokens: int, report: ReportProgress
) -> Tensor:
    """How alike the question's rows of two layers are, over the last records: `[L, L]`."""
    sums: list[Tensor] = []
    for number in reversed(range(len(builder.records))):
        prompt = builder.build(number, tokens)
        if prompt is not None:
            sums.append(layer_similarity(prefill(proxy, prompt.ids, prompt.shape).rows))
            report("similarity", len(sums), CALIBRATION)
        if len(sums) == CALIBRATION:
            break
    if not sums:
        raise BadInput(f"no question has gold that fits into {tokens:,} tokens; ask for more")
    return torch.stack(sums).mean(0)


def ranking_heads(proxy: Any, layers: int) -> tuple[Head, ...]:
    """The best heads of the contrast profile that ships; all heads for a proxy without one."""
    if not HeadProfile.is_shipped("contrast", proxy.card.name):
        return tuple((layer, h) for layer in range(layers) for h in range(proxy.card.heads))
    profile = HeadProfile.load_shipped("contrast", proxy.card.name)
    every = profile.best(profile.layers * profile.heads)
    return tuple(head for head in every if head[0] < layers)[:HEADS]
