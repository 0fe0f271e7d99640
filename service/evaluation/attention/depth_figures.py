"""What a cut loses against the full reading, set by set and pooled, with intervals; a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tamis.service.datasets.statistics import DRAWS, paired_bootstrap
from tamis.service.evaluation.attention.depth import Cut
from tamis.service.evaluation.evidence.evidence import Outcome, Tally

LOST = 0.01
"""The share of the gold sentences that a cut may lose, at the upper end of the interval."""
QUESTIONS = 1_500
"""Judged by fewer, an interval is too wide for a verdict."""


def pooled(tallies: Mapping[str, Tally]) -> Tally:
    """All sets as one: every question counts by its gold sentences."""
    each = list(tallies.values())
    together = Tally(max(counts.distractors for counts in each))
    together.gold = [gold for counts in each for gold in counts.gold]
    for name, by_budget in each[0].outcomes.items():
        together.outcomes[name] = {
            budget: Outcome([kept for of in each for kept in of.outcomes[name][budget].found])
            for budget in by_budget
        }
    return together


def figures(
    tallies: Mapping[str, Tally],
    cuts: Sequence[Cut],
    weights: Mapping[int, int],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """A row a cut, as JSON; the first is the full reading, which the others are held against.

    Args:
        weights: linear weights that a token is multiplied with, by the layers that run.
    """
    whole, full = pooled(tallies), cuts[0]
    rows = []
    for cut in cuts:
        cells = _cells(whole, full.name, cut.name, seed, draws)
        rows.append(
            {
                "cut": cut.name,
                "kind": cut.kind,
                "layers": cut.depth,
                "heads": len(cut.heads),
                "saved": 1 - weights[cut.depth] / weights[full.depth],
                "within": all(cell["high"] <= LOST for cell in cells.values()),
                "budgets": cells,
                "sets": {
                    name: _cells(counts, full.name, cut.name, seed, draws)
                    for name, counts in tallies.items()
                },
            }
        )
    return rows


def _cells(
    counts: Tally, full: str, cut: str, seed: int, draws: int
) -> dict[str, dict[str, float]]:
    """By budget: gold kept, and how much more the full reading keeps."""
    found = {}
    for budget, outcome in counts.outcomes[cut].items():
        base = counts.outcomes[full][budget].found
        lost = paired_bootstrap(base, outcome.found, counts.gold, draws, seed)
        kept = {"gold_kept": sum(outcome.found) / sum(counts.gold)}
        found[f"{budget:g}"] = kept | dict(zip(("lost", "low", "high"), lost, strict=True))
    return found


def verdict(rows: Sequence[Mapping[str, Any]], questions: int) -> str:
    """The shallowest exit and the fewest heads that lose no more than `LOST`, in a line."""
    full, *cuts = rows
    exits = [row for row in cuts if row["within"] and row["kind"] == "exit"]
    heads = [row for row in cuts if row["within"] and row["kind"] == "heads"]
    shallowest = min(exits, key=lambda row: int(row["layers"]), default=None)
    fewest = min(heads, key=lambda row: int(row["heads"]), default=None)
    said = (
        f"Within {LOST:g} of {full['cut']} over {questions:,} questions: "
        f"{_said(shallowest) if shallowest else 'no shallower exit'}; "
        f"{_said(fewest) if fewest else 'no smaller number of heads'}."
    )
    return said if questions >= QUESTIONS else f"{said} A verdict takes {QUESTIONS:,} questions."


def _said(row: Mapping[str, Any]) -> str:
    depth = f", {row['layers']} layers deep" if row["kind"] == "heads" else ""
    return f"{row['cut']}{depth} ({row['saved']:.0%} of the arithmetic saved)"
