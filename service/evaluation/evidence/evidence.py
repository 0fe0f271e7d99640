"""How much of the evidence each method keeps, at which budget, and how sure the differences are.

    sets ─ distractors, spread ─► cases ─ panel ─► scores ─ select at each budget ─► gold kept

Units are tamis's own. A gold sentence is the data set's, and is kept when 90 % of its visible
characters are. Shares are over all gold sentences of a set; intervals are of a paired bootstrap
over its records.
"""

from __future__ import annotations

import hashlib
import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tamis.compressors.pipeline.compression import DEFAULT_RULES
from tamis.compressors.registry import DEFAULT
from tamis.compressors.selection.select import select, whole
from tamis.compressors.types import Budget, Scores
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.datasets.records import (
    DISTRACTORS,
    Record,
    gold_spans,
    is_covered,
    load,
    lone,
    passages_of,
    with_distractors,
)
from tamis.service.datasets.statistics import DRAWS, paired_bootstrap
from tamis.service.evaluation.evidence.methods import Panel
from tamis.service.evaluation.evidence.run import budget_of, language_of

Spans = Sequence[Sequence[tuple[int, int]]]
"""Kept spans of each document of a record: half-open, without overlap."""
Report = Callable[[int], None]


@dataclass(slots=True)
class Outcome:
    """One method at one budget over the records of a set: one number a record each.

    Attributes:
        found: gold sentences kept. tokens: of the output. too_small: cases in which no unit fitted.
    """

    found: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    too_small: int = 0


@dataclass(slots=True)
class Tally:
    """All that was counted over one set.

    Attributes:
        gold, tokens_in: one number a record.
        outcomes: by method, then by budget. ms, cached: by method.
    """

    distractors: int
    gold: list[int] = field(default_factory=list)
    tokens_in: list[int] = field(default_factory=list)
    outcomes: dict[str, dict[float, Outcome]] = field(default_factory=dict)
    ms: dict[str, list[float]] = field(default_factory=dict)
    cached: dict[str, int] = field(default_factory=dict)


def gold_kept(record: Record, kept: Spans) -> list[bool]:
    """For each gold sentence of a record, whether it is kept."""
    return [
        is_covered(record["docs"][doc]["text"], kept[doc], start, stop)
        for doc, start, stop in gold_spans(record)
    ]


def records_of(path: Path, limit: int | None, seed: int) -> tuple[list[Record], int]:
    """The records of a set that have gold sentences, and how many distractors each was given.

    Sets of single short passages get distractors from the whole set. With a limit, records are
    taken at even distances, so that they come from all articles.

    Raises:
        BadInput: the file has no record with a gold sentence.
    """
    rows = load(path)
    count = DISTRACTORS if lone(rows) else 0
    rows = with_distractors(rows, count, seed) if count else rows
    rows = [row for row in rows if gold_spans(row)]
    if not rows:
        raise BadInput(f"{path} has no record with gold sentences; there is nothing to find")
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; give at least 1 record")
    taken = min(limit or len(rows), len(rows))
    return [rows[i * len(rows) // taken] for i in range(taken)], count


def file_of(folder: Path, name: str) -> Path:
    """The file of a set. BadInput: there is none; the message names those there are."""
    for ending in (".jsonl.gz", ".jsonl"):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    there = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
    raise BadInput(f"there is no set {name!r} in {folder}; there are: {', '.join(there) or 'none'}")


def counted(report: Callable[[str, int, int], None], name: str, total: int) -> Report:
    """A named bar over `total` records, as `tally` moves it."""
    return lambda done: report(name, done, total)


def tally(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: Tokens,
    distractors: int = 0,
    report: Report = lambda done: None,
) -> Tally:
    """Runs every method at every budget over the records of a set.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        counter: the tokenizer of the budget.
        report: called after each record with how many are done.
    """
    counts = Tally(distractors)
    for name in panel.names:
        counts.outcomes[name] = {budget: Outcome() for budget in budgets}
        counts.ms[name], counts.cached[name] = [], 0
    for done, record in enumerate(records, 1):
        _add(counts, record, panel, counter)
        report(done)
    return counts


def _add(counts: Tally, record: Record, panel: Panel, counter: Tokens) -> None:
    """One record, every method, every budget."""
    passages = passages_of(record)
    units = units_of(passages, language_of(record))
    tokens_in = counter.count(whole(passages, units, DEFAULT_RULES))
    counts.gold.append(len(gold_spans(record)))
    counts.tokens_in.append(tokens_in)
    for name, seen in panel.see(record["question"], passages, units).items():
        counts.ms[name].append(seen.ms)
        counts.cached[name] += seen.cached
        for budget, outcome in counts.outcomes[name].items():
            kept, tokens = _kept(passages, units, seen.scores, budget_of(budget), counter)
            outcome.found.append(sum(gold_kept(record, kept)))
            outcome.tokens.append(tokens)
            outcome.too_small += not tokens


def _kept(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    scores: Scores,
    budget: Budget,
    counter: Tokens,
) -> tuple[list[list[tuple[int, int]]], int]:
    """Kept spans of each passage, and the tokens of the output; nothing where no unit fits."""
    spans: list[list[tuple[int, int]]] = [[] for _ in passages]
    try:
        kept = select(
            passages, units, scores.values, scores.passages, budget, DEFAULT_RULES, counter
        )
    except BudgetTooSmall:
        return spans, 0
    for u in kept.units:
        spans[units[u].passage].append(units[u].visible)
    return spans, kept.tokens


def reference(names: Sequence[str]) -> str:
    """The method all others are compared with: the default, or else the first."""
    return DEFAULT if DEFAULT in names else names[0]


def figures(counts: Tally, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """What was counted over a set, as JSON, with the differences to the reference method."""
    first = reference(list(counts.outcomes))
    base = counts.outcomes[first]
    return {
        "reference": first,
        "records": len(counts.gold),
        "gold_sentences": sum(counts.gold),
        "distractors": counts.distractors,
        "mean_tokens_in": statistics.fmean(counts.tokens_in),
        "methods": {
            name: {
                "median_ms": round(statistics.median(counts.ms[name]), 3),
                "cached_cases": counts.cached[name],
                "budgets": {
                    f"{budget:g}": _cell(counts, outcome)
                    | (
                        {}
                        if base is by_budget
                        else _against(counts, base[budget], outcome, seed, draws)
                    )
                    for budget, outcome in by_budget.items()
                },
            }
            for name, by_budget in counts.outcomes.items()
        },
    }


def _cell(counts: Tally, outcome: Outcome) -> dict[str, Any]:
    shares = [out / max(1, of) for out, of in zip(outcome.tokens, counts.tokens_in, strict=True)]
    return {
        "gold_kept": sum(outcome.found) / sum(counts.gold),
        "all_gold_kept": statistics.fmean(_complete(counts, outcome)),
        "mean_tokens": statistics.fmean(outcome.tokens),
        "mean_share": statistics.fmean(shares),
        "too_small": outcome.too_small,
    }


def _complete(counts: Tally, outcome: Outcome) -> list[float]:
    """1 for a record with all its gold kept, else 0."""
    return [float(found == gold) for found, gold in zip(outcome.found, counts.gold, strict=True)]


def _against(
    counts: Tally, base: Outcome, other: Outcome, seed: int, draws: int
) -> dict[str, Mapping[str, float]]:
    """How much more the reference keeps than another method."""
    ones = [1.0] * len(counts.gold)
    pairs = {
        "reference_gold_ahead": (base.found, other.found, counts.gold),
        "reference_all_ahead": (_complete(counts, base), _complete(counts, other), ones),
    }
    return {
        name: dict(
            zip(("difference", "low", "high"), paired_bootstrap(*pair, draws, seed), strict=True)
        )
        for name, pair in pairs.items()
    }


def sha256_of(path: Path) -> str:
    """The digest of a file: a figure is of these bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def surroundings() -> dict[str, Any]:
    """Versions and machine: what a figure may depend on beside method and data."""
    packages = ("tamis", "torch", "transformers", "tokenizers", "sentencex", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
