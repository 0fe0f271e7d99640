"""How much of the evidence each method keeps at each budget, and how certain differences are.

    records ─ distractors, sample ─► cases ─ panel ─► scores ─ select at each budget ─► gold kept

Units are those that tamis segments. Gold sentences are those of the data set; one is kept when 90 %
of its visible characters are. Shares are over all gold sentences of a set; intervals are those of a
paired bootstrap over its records.
"""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tamis.compressors.registry import DEFAULT
from tamis.compressors.rules import DEFAULT_RULES, Budget
from tamis.compressors.selection.rendering import render_whole
from tamis.compressors.selection.select import select
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.evidence.panel import Panel
from tamis_lab.bench.evidence.run import budget_of, language_of
from tamis_lab.datasets.records import (
    DISTRACTORS,
    Record,
    add_distractors,
    are_single_passages,
    gold_spans,
    is_covered,
    load_records,
    passages_of,
)
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap

KeptSpans = Sequence[Sequence[tuple[int, int]]]
"""Kept spans of each document of a record: half-open, without overlap."""
RecordProgress = Callable[[int], None]
"""Called with how many records are done."""


@dataclass(slots=True)
class BudgetOutcome:
    """What one method kept at one budget, over the records of a set.

    Attributes:
        gold_kept: gold sentences kept, one number per record.
        tokens_out: tokens of the output, one number per record.
        too_small: how many records had no unit that fits the budget.
    """

    gold_kept: list[int] = field(default_factory=list)
    tokens_out: list[int] = field(default_factory=list)
    too_small: int = 0


@dataclass(slots=True)
class EvidenceTally:
    """Everything counted over one set.

    Attributes:
        distractors: passages added to each record.
        gold, tokens_in: gold sentences and input tokens, one number per record.
        outcomes: by method, then by budget.
        ms: of scoring each record, by method. cached_cases: how many scores were cached, by method.
    """

    distractors: int
    gold: list[int] = field(default_factory=list)
    tokens_in: list[int] = field(default_factory=list)
    outcomes: dict[str, dict[float, BudgetOutcome]] = field(default_factory=dict)
    ms: dict[str, list[float]] = field(default_factory=dict)
    cached_cases: dict[str, int] = field(default_factory=dict)


def kept_gold_flags(record: Record, kept_spans: KeptSpans) -> list[bool]:
    """For each gold sentence of a record, whether it is kept."""
    return [
        is_covered(record["docs"][doc]["text"], kept_spans[doc], start, stop)
        for doc, start, stop in gold_spans(record)
    ]


def load_gold_records(path: Path, limit: int | None, seed: int) -> tuple[list[Record], int]:
    """The records of a set that have gold sentences, and how many distractors each one has.

    Sets of single short passages get distractors from the whole set. With a limit, records are
    taken at even distances, so that they come from all articles.

    Raises:
        BadInput: the file has no record with a gold sentence.
    """
    rows = load_records(path)
    count = DISTRACTORS if are_single_passages(rows) else 0
    rows = add_distractors(rows, count, seed) if count else rows
    rows = [row for row in rows if gold_spans(row)]
    if not rows:
        raise BadInput(f"{path} has no record with gold sentences; there is nothing to find")
    if limit is not None and limit < 1:
        raise BadInput(f"limit is {limit}; give at least 1 record")
    size = min(limit or len(rows), len(rows))
    return [rows[i * len(rows) // size] for i in range(size)], count


def find_set_file(folder: Path, name: str) -> Path:
    """The file of a set.

    Raises:
        BadInput: there is none; the message names the sets of the folder.
    """
    for ending in (".jsonl.gz", ".jsonl"):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    names = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
    raise BadInput(f"there is no set {name!r} in {folder}; there are: {', '.join(names) or 'none'}")


def record_progress(
    report: Callable[[str, int, int], None], name: str, total: int
) -> RecordProgress:
    """A callback for `tally_evidence` that reports a name, the records done, and their total."""
    return lambda done: report(name, done, total)


def tally_evidence(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    distractors: int = 0,
    report: RecordProgress = lambda done: None,
) -> EvidenceTally:
    """Runs every method at every budget over the records of a set.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        counter: the tokenizer of the budget.
        report: called after each record with how many are done.
    """
    counts = EvidenceTally(distractors)
    for name in panel.names:
        counts.outcomes[name] = {budget: BudgetOutcome() for budget in budgets}
        counts.ms[name], counts.cached_cases[name] = [], 0
    for done, record in enumerate(records, 1):
        _tally_record(counts, record, panel, counter)
        report(done)
    return counts


def _tally_record(
    counts: EvidenceTally, record: Record, panel: Panel, counter: TextTokenizer
) -> None:
    """Adds one record: every method at every budget."""
    passages = passages_of(record)
    units = units_of(passages, language_of(record))
    tokens_in = counter.count(render_whole(passages, units, DEFAULT_RULES))
    counts.gold.append(len(gold_spans(record)))
    counts.tokens_in.append(tokens_in)
    for name, scored in panel.score_case(record["question"], passages, units).items():
        counts.ms[name].append(scored.ms)
        counts.cached_cases[name] += scored.cached
        for budget, outcome in counts.outcomes[name].items():
            spans, tokens_out = _select_spans(
                passages, units, scored.scores, budget_of(budget), counter
            )
            outcome.gold_kept.append(sum(kept_gold_flags(record, spans)))
            outcome.tokens_out.append(tokens_out)
            outcome.too_small += not tokens_out


def _select_spans(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    scores: Scores,
    budget: Budget,
    counter: TextTokenizer,
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


def reference_method(names: Sequence[str]) -> str:
    """The method that the others are compared with: the default one, or else the first."""
    return DEFAULT if DEFAULT in names else names[0]


def evidence_figures(counts: EvidenceTally, seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """The figures of one set, as JSON, with the differences to the reference method."""
    first = reference_method(list(counts.outcomes))
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
                "cached_cases": counts.cached_cases[name],
                "budgets": {
                    f"{budget:g}": _outcome_figures(counts, outcome)
                    | (
                        {}
                        if base is by_budget
                        else _reference_leads(counts, base[budget], outcome, seed, draws)
                    )
                    for budget, outcome in by_budget.items()
                },
            }
            for name, by_budget in counts.outcomes.items()
        },
    }


def _outcome_figures(counts: EvidenceTally, outcome: BudgetOutcome) -> dict[str, Any]:
    shares = [
        out / max(1, of) for out, of in zip(outcome.tokens_out, counts.tokens_in, strict=True)
    ]
    return {
        "gold_kept": sum(outcome.gold_kept) / sum(counts.gold),
        "all_gold_kept": statistics.fmean(_complete_records(counts, outcome)),
        "mean_tokens": statistics.fmean(outcome.tokens_out),
        "mean_share": statistics.fmean(shares),
        "too_small": outcome.too_small,
    }


def _complete_records(counts: EvidenceTally, outcome: BudgetOutcome) -> list[float]:
    """1 for a record with all its gold kept, else 0."""
    return [float(kept == gold) for kept, gold in zip(outcome.gold_kept, counts.gold, strict=True)]


def _reference_leads(
    counts: EvidenceTally, base: BudgetOutcome, other: BudgetOutcome, seed: int, draws: int
) -> dict[str, Mapping[str, float]]:
    """How much more the reference method keeps than another, with intervals."""
    ones = [1.0] * len(counts.gold)
    pairs = {
        "reference_gold_ahead": (base.gold_kept, other.gold_kept, counts.gold),
        "reference_all_ahead": (
            _complete_records(counts, base),
            _complete_records(counts, other),
            ones,
        ),
    }
    return {
        name: dict(
            zip(("difference", "low", "high"), paired_bootstrap(*pair, draws, seed), strict=True)
        )
        for name, pair in pairs.items()
    }


def environment_facts() -> dict[str, Any]:
    """Versions, machine and threads: what figures may depend on beside method and data."""
    packages = ("tamis", "torch", "transformers", "tokenizers", "sentencex", "numpy")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
