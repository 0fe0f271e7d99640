"""Does it matter where the evidence stands? The same questions with it first, in the middle, last.

    record ─ evidence moved ─► first, middle, last ─ panel ─ select ─► gold kept by place ─► spread

Documents with gold sentences move together; the others keep their order. Apart, a method that reads
passages alone sees the same three times. Joined to one document, windows hold other neighbours and
evidence stands elsewhere in them, as in a file that was never cut into passages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.tokens import Tokens
from tamis.service.datasets.records import Record, gold_spans
from tamis.service.datasets.statistics import DRAWS, paired_bootstrap, spread_bootstrap
from tamis.service.evaluation.evidence.evidence import Outcome, tally
from tamis.service.evaluation.evidence.methods import Panel

PLACES = ("first", "middle", "last")
Report = Callable[[int], None]


def moved(record: Record, place: str) -> Record:
    """The record with its evidence first, in the middle or last among its documents."""
    answering = {doc for doc, _, _ in gold_spans(record)}
    evidence = [doc for doc in range(len(record["docs"])) if doc in answering]
    others = [doc for doc in range(len(record["docs"])) if doc not in answering]
    at = {"first": 0, "middle": (len(others) + 1) // 2, "last": len(others)}[place]
    order = [*others[:at], *evidence, *others[at:]]
    now = {old: new for new, old in enumerate(order)}
    spans = [[now[doc], a, b] for doc, a, b in record.get("answer_spans", ())]
    return {**record, "docs": [record["docs"][doc] for doc in order], "answer_spans": spans}


def movable(records: Sequence[Record]) -> list[Record]:
    """Records in which evidence can stand in three places: those with two other documents or more.

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


def as_one(record: Record) -> Record:
    """All documents of a record as one, titles on a line of their own, a blank line between."""
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


def arranged(records: Sequence[Record], joined: bool) -> list[Record]:
    """Every record three times in a row, in the order of `PLACES`."""
    rows = [moved(record, place) for record in records for place in PLACES]
    return [as_one(row) for row in rows] if joined else rows


def sweep(
    records: Sequence[Record],
    panel: Panel,
    budgets: Sequence[float],
    counter: Tokens,
    joined: bool,
    report: Report = lambda done: None,
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Gold kept by place, of every method at every budget, with the spread between places.

    Args:
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        joined: make one document of each record.
        report: called with how many records are done in all places.
    """
    rows = arranged(records, joined)
    step = len(PLACES)
    counts = tally(rows, panel, budgets, counter, 0, lambda done: report(done // step))
    gold = counts.gold[::step]
    return {
        method: {f"{budget:g}": _cell(outcome, gold, seed, draws) for budget, outcome in of.items()}
        for method, of in counts.outcomes.items()
    }


def _cell(outcome: Outcome, gold: Sequence[int], seed: int, draws: int) -> dict[str, Any]:
    found = {place: outcome.found[i :: len(PLACES)] for i, place in enumerate(PLACES)}
    spread = spread_bootstrap(list(found.values()), gold, draws, seed)
    return {
        "gold_kept": {place: sum(kept) / sum(gold) for place, kept in found.items()},
        "spread": dict(zip(("value", "low", "high"), spread, strict=True)),
        "differences": {
            f"{a} - {b}": _difference(found[a], found[b], gold, seed, draws)
            for a, b in combinations(PLACES, 2)
        },
    }


def _difference(
    a: Sequence[int], b: Sequence[int], gold: Sequence[int], seed: int, draws: int
) -> Mapping[str, float]:
    found = paired_bootstrap(a, b, gold, draws, seed)
    return dict(zip(("difference", "low", "high"), found, strict=True))
