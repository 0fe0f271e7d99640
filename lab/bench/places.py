"""`bench places`: the same questions with their evidence first, in the middle and last.

Does the place of the evidence matter? The same questions with it first, in the middle, and last.

    record ─ move evidence ─► first, middle, last ─ panel ─ select ─► gold kept by place ─► spread

Documents with gold sentences move together; the others keep their order. With separate documents, a
method that reads each passage alone reads the same three times. With all documents joined to one,
as in a file that was never cut into passages, windows have other content before and after the
evidence, which is at another position in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Annotated, Any

import typer

from tamis.compressors.registry import DEFAULT
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.evidence import BudgetOutcome, load_gold_records, tally_evidence
from tamis_lab.bench.panel import Panel, build_panel
from tamis_lab.bench.study import Study, ends, table
from tamis_lab.datasets.record_files import file_sha256
from tamis_lab.datasets.records import Record, gold_spans, take_evenly
from tamis_lab.datasets.statistics import DRAWS, paired_interval, spread_bootstrap
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench places hotpotqa.jsonl.gz --limit 200`

`tamis lab bench places xquad_en.jsonl.gz --joined --methods question_rows,sentinel --budgets
0.1,0.2`

Spread is the largest less the smallest of the three shares. Its interval cannot reach below 0: what
counts is its upper end. With `--joined` the documents of a question are one long document.
"""


@report_errors()
def places(
    records: shared.Records,
    methods: shared.Methods = DEFAULT,
    budgets: shared.Budgets = "0.1,0.2",
    limit: shared.Limit = 200,
    joined: Annotated[
        bool, typer.Option("--joined", help="Make one document of each record's.")
    ] = False,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    results: shared.Results = None,
    as_json: shared.Json = False,
) -> None:
    """Gold sentences kept by where the evidence stands, and how far the places lie apart.

    Sets of single short passages get distractors, as in `tamis lab bench evidence`.
    """
    study = Study(as_json, results=results)
    shares, names = shared.parse_budgets(budgets), shared.parse_list(methods, "methods")
    found, distractors = load_gold_records(records, None, seed)
    rows = movable_records(found)
    rows = take_evenly(rows, limit or len(rows))
    models, counter = (
        build_panel(names, proxy, shared.readings_folder(cache)),
        counter_of("proxy", proxy),
    )
    made = {"methods": names, "budgets": shares, "limit": limit, "joined": joined, "seed": seed}
    study.keep_rows(made | {"proxies": models.proxies, "sha256": file_sha256(records)})
    with study.bars():
        figures = sweep_places(rows, models.panel, shares, counter, joined, study, seed)
    facts = {
        "records": len(rows),
        "distractors": distractors,
        "joined": joined,
        "proxies": models.proxies,
        "methods": figures,
    }
    form = "documents joined to one" if joined else "documents apart"
    title = (
        f"{len(rows)} questions, {form}: per cent of gold sentences kept, by where the evidence "
        "stands; [95 % interval]"
    )
    columns = ("method", "budget", *PLACES, "spread", "first - last")
    study.publish(facts, lambda: [table(title, columns, _cells(figures))])


def _cells(figures: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    """A row per method and budget: per cent of gold kept in each place, and the spread."""
    for method, of in figures.items():
        for budget, cell in of.items():
            kept = (f"{100 * share:.1f}" for share in cell["gold_kept"].values())
            spread, last = cell["spread"], cell["differences"]["first - last"]
            apart = (f"{100 * spread['value']:.1f} {ends(spread)}",)
            yield [method, budget, *kept, *apart, f"{100 * last['difference']:.1f} {ends(last)}"]


def sweep_places(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    joined: bool,
    study: Study | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Gold kept by place, of every method at every budget, with the spread between places.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        joined: join the documents of each record to one.
    """
    rows = arrange_records(records, joined)
    counts = tally_evidence(rows, panel, budgets, counter, 0, study, "places")
    gold = counts.gold[:: len(PLACES)]
    return {
        method: {
            f"{budget:g}": _place_figures(outcome, gold, seed, draws)
            for budget, outcome in of.items()
        }
        for method, of in counts.outcomes.items()
    }


def _place_figures(
    outcome: BudgetOutcome, gold: Sequence[int], seed: int, draws: int
) -> dict[str, Any]:
    by_place = {place: outcome.gold_kept[i :: len(PLACES)] for i, place in enumerate(PLACES)}
    spread = spread_bootstrap(list(by_place.values()), gold, draws, seed)
    return {
        "gold_kept": {place: sum(kept) / sum(gold) for place, kept in by_place.items()},
        "spread": dict(zip(("value", "low", "high"), spread, strict=True)),
        "differences": {
            f"{a} - {b}": paired_interval(by_place[a], by_place[b], gold, draws, seed)
            for a, b in combinations(PLACES, 2)
        },
    }


PLACES = ("first", "middle", "last")


def move_evidence(record: Record, place: str) -> Record:
    """The record with its evidence first, in the middle or last among its documents."""
    answering = {doc for doc, _, _ in gold_spans(record)}
    evidence = [doc for doc in range(len(record["docs"])) if doc in answering]
    others = [doc for doc in range(len(record["docs"])) if doc not in answering]
    at = {"first": 0, "middle": (len(others) + 1) // 2, "last": len(others)}[place]
    order = [*others[:at], *evidence, *others[at:]]
    new_index = {old: new for new, old in enumerate(order)}
    spans = [[new_index[doc], a, b] for doc, a, b in record.get("answer_spans", ())]
    return {**record, "docs": [record["docs"][doc] for doc in order], "answer_spans": spans}


def movable_records(records: Sequence[Record]) -> list[Record]:
    """Records whose evidence has three possible places: those with two other documents or more.

    Raises:
        BadInput: there is none.
    """
    found = [
        record
        for record in records
        if len(record["docs"]) - len({doc for doc, _, _ in gold_spans(record)}) >= 2
    ]
    if not found:
        raise BadInput(
            f"none of {len(records)} records has two documents beside its evidence; there is no "
            "middle to move it to"
        )
    return found


def join_documents(record: Record) -> Record:
    """The record with one document: titles on lines of their own, blank lines between documents."""
    text, starts = "", []
    sents: list[list[int]] = []
    gold: list[int] = []
    for doc in record["docs"]:
        text += ("\n\n" if text else "") + (f"{doc['title']}\n" if doc.get("title") else "")
        starts.append(len(text))
        gold += [len(sents) + i for i in doc.get("gold", ())]
        sents += [[a + len(text), b + len(text)] for a, b in doc["sents"]]
        text += doc["text"]
    spans = [[0, a + starts[d], b + starts[d]] for d, a, b in record.get("answer_spans", ())]
    whole = {"title": None, "text": text, "sents": sents, "gold": gold}
    return {**record, "docs": [whole], "answer_spans": spans}


def arrange_records(records: Sequence[Record], joined: bool) -> list[Record]:
    """Every record three times in a row, in the order of `PLACES`."""
    rows = [move_evidence(record, place) for record in records for place in PLACES]
    return [join_documents(row) for row in rows] if joined else rows
