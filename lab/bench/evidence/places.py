"""Does the place of the evidence matter? The same questions with it first, in the middle, and last.

    record ─ move evidence ─► first, middle, last ─ panel ─ select ─► gold kept by place ─► spread

Documents with gold sentences move together; the others keep their order. With separate documents, a
method that reads each passage alone reads the same three times. With all documents joined to one,
as in a file that was never cut into passages, windows have other content before and after the
evidence, which is at another position in them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.evidence.panel import Panel
from tamis_lab.bench.evidence.tally import BudgetOutcome, RecordProgress, tally_evidence
from tamis_lab.datasets.records import Record, gold_spans
from tamis_lab.datasets.statistics import DRAWS, paired_bootstrap, spread_bootstrap

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


def sweep_places(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: TextTokenizer,
    joined: bool,
    report: RecordProgress = lambda done: None,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Gold kept by place, of every method at every budget, with the spread between places.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        joined: join the documents of each record to one.
        report: called with how many records are done in all places.
    """
    rows = arrange_records(records, joined)
    step = len(PLACES)
    counts = tally_evidence(rows, panel, budgets, counter, 0, lambda done: report(done // step))
    gold = counts.gold[::step]
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
            f"{a} - {b}": _paired_difference(by_place[a], by_place[b], gold, seed, draws)
            for a, b in combinations(PLACES, 2)
        },
    }


def _paired_difference(
    a: Sequence[int], b: Sequence[int], gold: Sequence[int], seed: int, draws: int
) -> Mapping[str, float]:
    found = paired_bootstrap(a, b, gold, draws, seed)
    return dict(zip(("difference", "low", "high"), found, strict=True))
