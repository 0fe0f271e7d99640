"""`tamis lab bench evidence`: compares methods by the share of gold sentences that they keep.

How much of the evidence each method keeps at each budget, and how certain differences are.

    records ─ distractors, sample ─► cases ─ panel ─► scores ─ select at each budget ─► gold kept

Units are those that tamis segments. Gold sentences are those of the data set; one is kept when 90 %
of its visible characters are. Shares are over all gold sentences of a set; intervals are those of a
paired bootstrap over its records.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors.registry import DEFAULT, ships_for
from tamis.compressors.rules import DEFAULT_RULES, Budget
from tamis.compressors.selection.rendering import render_whole
from tamis.compressors.selection.select import select
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis_lab.bench.panel import BLENDS, Panel, build_panel, code_hashes
from tamis_lab.bench.study import Study, estimate, heading, table
from tamis_lab.datasets.record_files import RecordFile, file_sha256
from tamis_lab.datasets.records import (
    DISTRACTORS,
    Record,
    add_distractors,
    are_single_passages,
    gold_spans,
    is_covered,
    load_records,
    passages_of,
    request_units,
)
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.datasets.statistics import DRAWS, paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

METHODS = "question_rows,fusion,lexical,embedding,bm25+minilm,sentinel,lead"
EPILOG = shared.RECORDS


@report_errors()
def evidence(
    data: shared.SetsFolder = None,
    sets: shared.Sets = "xquad_en,hotpotqa,2wikimultihopqa,covid_qa",
    methods: shared.Methods = METHODS,
    budgets: shared.Budgets = "0.05,0.1,0.2,0.33",
    limit: shared.Limit = 100,
    full: Annotated[bool, typer.Option("--full", help="All records.")] = False,
    results: shared.Results = None,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
) -> None:
    """Compare methods by the share of gold sentences they keep at each budget.

    Of the default methods, those without a probe for the proxy are left out.

    Example: tamis lab bench evidence --data mine/ --sets support,wiki --methods
    question_rows,lexical reads mine/support.jsonl and mine/wiki.jsonl (or .jsonl.gz).
    """
    study, shares = Study(as_json, plot, results), shared.parse_budgets(budgets)
    names = usual_methods(proxy) if methods == METHODS else shared.parse_list(methods, "methods")
    files = shared.find_sets(data, shared.parse_list(sets, "sets"))
    models, counter = (
        build_panel(names, proxy, shared.readings_folder(cache)),
        counter_of("proxy", proxy),
    )
    most, hashes = None if full else limit, {name: file_sha256(of) for name, of in files.items()}
    made = {"methods": names, "budgets": shares, "limit": most, "seed": seed, "sha256": hashes}
    study.keep_rows(made | {"proxies": models.proxies, "code_sha256": code_hashes(names)})
    chosen = [RecordFile(path, most, display_name=name) for name, path in files.items()]
    with study.bars():
        tallies = tally_sets(chosen, models.panel, shares, counter, seed, study)
    found = {
        name: evidence_figures(counts, seed) | {"sha256": hashes[name]}
        for name, counts in tallies.items()
    }
    study.publish(
        {"seed": seed, "proxies": models.proxies, "sets": found},
        lambda: [*(evidence_table(name, of) for name, of in found.items()), _footnote(found)],
        lambda: evidence_charts(found),
    )


def usual_methods(proxy: str) -> list[str]:
    """The default methods; prints which ones are left out for want of a probe for the proxy."""
    every = METHODS.split(",")
    names = [name for name in every if name in BLENDS or ships_for(name, proxy)]
    if left_out := [name for name in every if name not in names]:
        typer.echo(f"left out: {', '.join(left_out)} has no probe for {proxy}", err=True)
    return names


def evidence_table(name: str, figures: Mapping[str, Any]) -> Table:
    """One set: gold kept (records with all of it), the reference's lead below."""
    methods = figures["methods"]
    others = f", each among {figures['distractors']} others" if figures["distractors"] else ""
    gold = f"{figures['gold_sentences']} gold sentences"
    return table(
        f"{name}: {figures['records']} questions, {gold}{others}",
        ("method", *map(heading, next(iter(methods.values()))["budgets"]), "ms"),
        (
            (
                Text(method, "bold" if method == figures["reference"] else ""),
                *map(_cell, of["budgets"].values()),
                f"{of['median_ms']:.1f}{'*' if of['cached_cases'] else ''}",
            )
            for method, of in methods.items()
        ),
    )


def _cell(cell: Mapping[str, Any]) -> Text:
    text = Text(f"{100 * cell['gold_kept']:.1f} ({100 * cell['all_gold_kept']:.1f})")
    if ahead := cell.get("reference_gold_ahead"):
        text.append("\n").append(estimate(ahead))
    return text


def _footnote(sets: Mapping[str, Any]) -> Text:
    """An explanation of the figures in the tables."""
    first = next(iter(sets.values()))
    text = "Per cent of gold sentences kept (of questions with all of them). "
    if len(first["methods"]) > 1:
        text += f"Below: how far {first['reference']} is ahead, [95 % interval]. "
    text += "ms: median of scoring a case"
    if any(of["cached_cases"] for figures in sets.values() for of in figures["methods"].values()):
        text += "; * readings or vectors were kept from before"
    return Text(f"{text}.\n")


def evidence_charts(sets: Mapping[str, Any]) -> list[Chart]:
    """A chart a set: the share of gold kept against the share of tokens, a line a method."""
    return [
        Chart(
            f"{name} ({figures['records']} questions)",
            {method: _curve(of["budgets"].values()) for method, of in figures["methods"].items()},
            "share of tokens kept",
            "share of gold sentences kept",
            logs="x",
            shares="y",
        )
        for name, figures in sets.items()
    ]


def _curve(cells: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    by_share = sorted(cells, key=lambda cell: float(cell["mean_share"]))
    return [c["mean_share"] for c in by_share], [c["gold_kept"] for c in by_share]


def tally_sets(
    files: Sequence[RecordFile],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    seed: int = 0,
    study: Study | None = None,
) -> dict[str, EvidenceTally]:
    """Runs every method at every budget over the records of each file, by the file's name.

    Args:
        seed: of the distractors that single passages get.
    """
    tallies = {}
    for file in files:
        rows, distractors = load_gold_records(file.path, file.limit, seed)
        tallies[file.name] = tally_evidence(
            rows, panel, budgets, counter, distractors, study, file.name
        )
    return tallies


def tally_evidence(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    distractors: int = 0,
    study: Study | None = None,
    name: str = "records",
) -> EvidenceTally:
    """Runs every method at every budget over the records of a set.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        counter: the tokenizer of the budget.
        study: keeps the rows, and shows how many records of this name are done.
    """
    counts = EvidenceTally(distractors)
    for method in panel.names:
        counts.outcomes[method] = {budget: BudgetOutcome() for budget in budgets}
        counts.ms[method], counts.cached_cases[method] = [], 0
    cases = {f"{name}/{n}/{record.get('id')}": record for n, record in enumerate(records)}
    measure = partial(measure_record, panel=panel, budgets=budgets, counter=counter)
    for row in (study or Study()).rows(name, cases, measure):
        _add_row(counts, row)
    return counts


def measure_record(
    record: Record, panel: Panel, budgets: Sequence[float], counter: TextTokenizer
) -> ResultRow:
    """One record by every method: gold sentences and tokens, kept of them at each budget, ms."""
    passages, units = passages_of(record), request_units(record)
    methods = {}
    for name, scored in panel.score_case(record["question"], passages, units).items():
        kept = [
            _select(passages, units, scored.scores, shared.budget_of(budget), counter)
            for budget in budgets
        ]
        methods[name] = {
            "ms": scored.ms,
            "cached": scored.cached,
            "gold_kept": [count_kept_gold(record, units, chosen) for chosen, _ in kept],
            "tokens_out": [tokens for _, tokens in kept],
        }
    return {
        "gold": len(gold_spans(record)),
        "tokens_in": counter.count(render_whole(passages, units, DEFAULT_RULES)),
        "methods": methods,
    }


def _add_row(counts: EvidenceTally, row: ResultRow) -> None:
    counts.gold.append(row["gold"])
    counts.tokens_in.append(row["tokens_in"])
    for name, of in row["methods"].items():
        counts.ms[name].append(of["ms"])
        counts.cached_cases[name] += of["cached"]
        columns = zip(
            counts.outcomes[name].values(), of["gold_kept"], of["tokens_out"], strict=True
        )
        for outcome, kept, tokens_out in columns:
            outcome.gold_kept.append(kept)
            outcome.tokens_out.append(tokens_out)
            outcome.too_small += not tokens_out


def _reference_leads(
    counts: EvidenceTally, base: BudgetOutcome, other: BudgetOutcome, seed: int, draws: int
) -> dict[str, Mapping[str, float]]:
    """How much more the reference method keeps than another, with intervals."""
    ones, whole = [1.0] * len(counts.gold), partial(_complete_records, counts)
    return {
        "reference_gold_ahead": paired_interval(
            base.gold_kept, other.gold_kept, counts.gold, draws, seed
        ),
        "reference_all_ahead": paired_interval(whole(base), whole(other), ones, draws, seed),
    }


KeptSpans = Sequence[Sequence[tuple[int, int]]]
"""Kept spans of each document of a record: half-open, without overlap."""


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


def count_kept_gold(record: Record, units: Sequence[Unit], chosen: Iterable[int]) -> int:
    """How many gold sentences of a record some of its units hold."""
    spans: list[list[tuple[int, int]]] = [[] for _ in record["docs"]]
    for u in chosen:
        spans[units[u].passage].append(units[u].visible)
    return sum(kept_gold_flags(record, spans))


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


def _select(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    scores: Scores,
    budget: Budget,
    counter: TextTokenizer,
) -> tuple[Sequence[int], int]:
    """The kept units, and the tokens of the output; nothing where no unit fits."""
    try:
        kept = select(
            passages,
            units,
            scores.values,
            scores.passages,
            budget,
            DEFAULT_RULES,
            counter,
            calibrated=scores.calibrated,
        )
    except BudgetTooSmall:
        return (), 0
    return kept.units, kept.tokens


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
