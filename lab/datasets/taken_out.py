"""Contexts whose answer was taken out: of a record some that hold it and some that do not.

    pool         all documents of the record
    pool-docs    those without gold          pool-sents   all, without their gold sentences
    page         the one with gold alone     page-sents   the same without its gold sentences
    partly       all but one of those with gold, where there are several
    written      documents of a question that was written to have no answer in them
    beside, elsewhere, and -pool    of everyday documents

A record is read once, with a copy of each document with gold that has its gold sentences cut out: a
passage is read alone, so every context is a choice of documents.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.records import Record

MAX_CHARS = 7000
"""Of a record's documents together: longer ones are cut around their gold sentences."""
_MIN_ANSWER = 3
_OTHERS = (1, 7, 12, 18)


@dataclass(frozen=True, slots=True)
class Context:
    """Some documents of a record, by their indexes, and whether they hold the answer."""

    kind: str
    docs: tuple[int, ...]
    answered: bool


def with_cut_documents(record: Record) -> tuple[Record, list[Context]]:
    """The record to read, with the copies behind its own documents, and the contexts it makes.

    A context without its gold is left out where the answer stands in it elsewhere.
    """
    own = _cut_around_gold(record["docs"])
    gold = [i for i, doc in enumerate(own) if doc.get("gold")]
    everything = tuple(range(len(own)))
    if not record.get("answerable", True):
        found = [Context("written", everything, False)] if own else []
        return {**record, "docs": own, "answer_spans": []}, found
    copies = {i: without_gold_sentences(own[i]) for i in gold}
    docs = [*own, *copies.values()]
    copy_of = {i: len(own) + k for k, i in enumerate(copies)}
    whole = {**record, "docs": docs, "answer_spans": []}
    found = list(_contexts(everything, gold, copy_of))
    texts = [doc["text"].casefold() for doc in docs]
    answers = [a.casefold() for a in record.get("answers", ()) if len(a) >= _MIN_ANSWER]

    def is_sound(context: Context) -> bool:
        here = [texts[i] for i in context.docs]
        shown = any(text.strip() for text in here)
        leaks = not context.answered and any(a in t for a in answers for t in here)
        return shown and not (leaks and context.kind != "partly")

    return whole, [context for context in found if is_sound(context)]


def _contexts(
    everything: tuple[int, ...], gold: list[int], copy_of: dict[int, int]
) -> Iterator[Context]:
    rest = tuple(i for i in everything if i not in gold)
    if rest:
        yield Context("pool", everything, True)
        yield Context("pool-docs", rest, False)
        cut = tuple(copy_of.get(i, i) for i in everything)
        yield Context("pool-sents", cut, False)
    if len(gold) == 1:
        yield Context("page", (gold[0],), True)
        yield Context("page-sents", (copy_of[gold[0]],), False)
    elif rest:
        yield Context("partly", tuple(i for i in everything if i != gold[0]), False)


def everyday_contexts(path: Path) -> list[tuple[Record, list[Context]]]:
    """Short documents with a question that each answers, one that it leaves open (`beside`), and
    one of something else (`elsewhere`); each alone and among four others of the file."""
    rows = [row for _, row in read_json_lines(path)]
    docs = [{"title": None, "text": row["text"], "sents": [], "gold": []} for row in rows]
    found = []
    for i, row in enumerate(rows):
        pool = [docs[(i + k) % len(docs)] for k in (0, *_OTHERS)]
        for name in ("answered", "beside", "elsewhere"):
            answered = name == "answered"
            record = {"id": f"{row['id']} {name}", "question": row[name], "docs": pool}
            kinds = ("page", "pool") if answered else (name, f"{name}-pool")
            contexts = zip(kinds, ((0,), tuple(range(len(pool)))), strict=True)
            found.append((record, [Context(k, d, answered) for k, d in contexts]))
    return found


def without_gold_sentences(doc: Record) -> Record:
    """A copy of a document with its gold sentences cut out, each with the space behind it."""
    text, cuts = doc["text"], []
    for i in sorted(doc["gold"]):
        start, stop = doc["sents"][i]
        while stop < len(text) and text[stop].isspace():
            stop += 1
        cuts.append((start, stop))
    kept, at = [], 0
    for start, stop in cuts:
        kept.append(text[at:start])
        at = max(at, stop)
    return {**doc, "text": "".join([*kept, text[at:]]), "sents": [], "gold": []}


def _cut_around_gold(docs: Sequence[Record]) -> list[Record]:
    """Documents with gold, cut around it where they are long, and others while there is room."""
    room = MAX_CHARS
    cut: dict[int, Record] = {}
    order = sorted(range(len(docs)), key=lambda i: (not docs[i].get("gold"), i))
    share = MAX_CHARS // max(1, sum(bool(doc.get("gold")) for doc in docs))
    for i in order:
        doc = _around_gold(docs[i], share) if docs[i].get("gold") else docs[i]
        if doc.get("gold") or len(doc["text"]) <= room:
            cut[i] = doc
            room -= len(doc["text"])
    return [cut[i] for i in sorted(cut)]


def _around_gold(doc: Record, most: int) -> Record:
    """The sentences from the first gold one on both sides, as far as `most` characters reach."""
    sents = doc["sents"]
    if len(doc["text"]) <= most:
        return doc
    left, first = (min(doc["gold"]),) * 2
    reached = [i for i in doc["gold"] if sents[i][1] - sents[first][0] <= most]
    right = last = max(reached, default=first)
    while True:
        wider = [
            (start, stop)
            for start, stop in ((left - 1, right), (left, right + 1))
            if start >= 0 and stop < len(sents) and sents[stop][1] - sents[start][0] <= most
        ]
        if not wider:
            break
        left, right = wider[0] if first - left <= right - last else wider[-1]
    begin, end = sents[left][0], sents[right][1]
    return {
        **doc,
        "text": doc["text"][begin:end],
        "sents": [[a - begin, b - begin] for a, b in sents[left : right + 1]],
        "gold": [i - left for i in doc["gold"] if left <= i <= right],
    }
