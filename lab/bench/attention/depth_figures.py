"""Gold lost by cuts against the full reading, by set and pooled, with intervals; a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tamis_lab.bench.attention.depth import HeadCut
from tamis_lab.bench.evidence.tally import BudgetOutcome, EvidenceTally
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

MAX_LOST_SHARE = 0.01
"""The share of gold sentences that a cut may lose, at the upper end of the interval."""
VERDICT_QUESTIONS = 1_500
"""With fewer questions, an interval is too wide for a verdict."""


def pool_tallies(tallies: Mapping[str, EvidenceTally]) -> EvidenceTally:
    """All sets as one: every question weighs as many gold sentences as it has."""
    each = list(tallies.values())
    total = EvidenceTally(max(counts.distractors for counts in each))
    total.gold = [gold for counts in each for gold in counts.gold]
    for name, by_budget in each[0].outcomes.items():
        total.outcomes[name] = {
            budget: BudgetOutcome(
                [kept for counts in each for kept in counts.outcomes[name][budget].gold_kept]
            )
            for budget in by_budget
        }
    return total


def cut_figures(
    tallies: Mapping[str, EvidenceTally],
    cuts: Sequence[HeadCut],
    weights: Mapping[int, int],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """One row per cut, as JSON; the first is the full reading, which the others are compared with.

    Args:
        weights: how many linear weights a token is multiplied with, by number of layers.
    """
    total, full = pool_tallies(tallies), cuts[0]
    rows = []
    for cut in cuts:
        cells = _budget_cells(total, full.name, cut.name, seed, draws)
        rows.append(
            {
                "cut": cut.name,
                "kind": cut.kind,
                "layers": cut.depth,
                "heads": len(cut.heads),
                "saved": 1 - weights[cut.depth] / weights[full.depth],
                "within": all(cell["high"] <= MAX_LOST_SHARE for cell in cells.values()),
                "budgets": cells,
                "sets": {
                    name: _budget_cells(counts, full.name, cut.name, seed, draws)
                    for name, counts in tallies.items()
                },
            }
        )
    return rows


def _budget_cells(
    counts: EvidenceTally, full: str, cut: str, seed: int, draws: int
) -> dict[str, dict[str, float]]:
    """By budget: gold kept, and how much more the full reading keeps."""
    cells = {}
    for budget, outcome in counts.outcomes[cut].items():
        base = counts.outcomes[full][budget].gold_kept
        lost = paired_bootstrap(base, outcome.gold_kept, counts.gold, draws, seed)
        kept = {"gold_kept": sum(outcome.gold_kept) / sum(counts.gold)}
        cells[f"{budget:g}"] = kept | dict(zip(("lost", "low", "high"), lost, strict=True))
    return cells


def verdict(rows: Sequence[Mapping[str, Any]], questions: int) -> str:
    """A line with the shallowest exit and the fewest heads that lose at most `MAX_LOST_SHARE`."""
    full, *cuts = rows
    exits = [row for row in cuts if row["within"] and row["kind"] == "exit"]
    heads = [row for row in cuts if row["within"] and row["kind"] == "heads"]
    shallowest = min(exits, key=lambda row: int(row["layers"]), default=None)
    fewest = min(heads, key=lambda row: int(row["heads"]), default=None)
    text = (
        f"Within {MAX_LOST_SHARE:g} of {full['cut']} over {questions:,} questions: "
        f"{_describe_cut(shallowest) if shallowest else 'no shallower exit'}; "
        f"{_describe_cut(fewest) if fewest else 'no smaller number of heads'}."
    )
    if questions >= VERDICT_QUESTIONS:
        return text
    return f"{text} A verdict takes {VERDICT_QUESTIONS:,} questions."


def _describe_cut(row: Mapping[str, Any]) -> str:
    depth = f", {row['layers']} layers deep" if row["kind"] == "heads" else ""
    return f"{row['cut']}{depth} ({row['saved']:.0%} of the arithmetic saved)"
