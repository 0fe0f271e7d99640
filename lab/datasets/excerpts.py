"""Excerpts of a few sentences out of labelled documents, with the answer and without it.

What people paste is often a sentence or two, far shorter than any labelled context. Whether such a
text holds an answer can be learnt from excerpts of longer ones.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from tamis_lab.datasets.records import Record, record_id

MAX_SENTENCES = 4
RECORDS_A_PAIR = 2
"""Of so many records one gives excerpts: they are there to tell short texts apart, not to rule."""
_Span = tuple[int, int]


def excerpt_records(records: Sequence[Record]) -> list[Record]:
    """Excerpts of a share of the records, drawn by their ids."""
    drawn = [r for r in records if _chance(r, "drawn").randrange(RECORDS_A_PAIR) == 0]
    pairs = ((excerpt_with_answer(record), excerpt_without_answer(record)) for record in drawn)
    return [excerpt for pair in pairs for excerpt in pair if excerpt is not None]


def excerpt_with_answer(record: Record) -> Record | None:
    """One to four consecutive sentences of the document with the evidence, evidence among them.

    What is drawn depends on the record's id alone. None where the evidence lies in several
    documents, or apart: an excerpt would hold a part of it.
    """
    holders = [doc for doc in record["docs"] if doc["gold"]]
    if len(holders) != 1:
        return None
    chance, doc = _chance(record, "with"), holders[0]
    first, last = min(doc["gold"]), max(doc["gold"])
    if last - first >= MAX_SENTENCES:
        return None
    size = chance.randint(last - first + 1, MAX_SENTENCES)
    start = max(0, first - chance.randint(0, size - (last - first + 1)))
    return _excerpt(record, doc, start, start + size, "with")


def excerpt_without_answer(record: Record) -> Record | None:
    """One to four consecutive sentences without evidence, for half of the records beside it.

    None where the evidence lies in several documents, or no such sentences are left.
    """
    if sum(bool(doc["gold"]) for doc in record["docs"]) != 1:
        return None
    chance = _chance(record, "without")
    beside = chance.random() < 0.5
    docs = [doc for doc in record["docs"] if bool(doc["gold"]) == beside and _bare_runs(doc)]
    if not docs:
        return None
    doc = chance.choice(docs)
    first, stop = chance.choice(_bare_runs(doc))
    size = chance.randint(1, min(MAX_SENTENCES, stop - first))
    start = chance.randint(first, stop - size)
    return {**_excerpt(record, doc, start, start + size, "without"), "answerable": False}


def _chance(record: Record, kind: str) -> random.Random:
    return random.Random(f"excerpt {kind} {record_id(record)}")


def _bare_runs(doc: Record) -> list[_Span]:
    """Half-open runs of sentences without evidence that have a visible character."""
    runs: list[_Span] = []
    start: int | None = None
    for i, (a, b) in enumerate([*doc["sents"], (0, 0)]):
        bare = i not in doc["gold"] and bool(doc["text"][a:b].strip())
        if bare and start is None:
            start = i
        elif not bare and start is not None:
            runs.append((start, i))
            start = None
    return runs


def _excerpt(record: Record, doc: Record, start: int, stop: int, kind: str) -> Record:
    """A record of these sentences alone; the evidence among them stays marked."""
    sents = doc["sents"][start:stop]
    begin, end = sents[0][0], sents[-1][1]
    short = {
        **doc,
        "text": doc["text"][begin:end],
        "sents": [[a - begin, b - begin] for a, b in sents],
        "gold": [i - start for i in doc["gold"] if start <= i < stop],
    }
    return {
        **record,
        "id": f"{record_id(record)} excerpt {kind} answer",
        "docs": [short],
        "answer_spans": [],
    }
