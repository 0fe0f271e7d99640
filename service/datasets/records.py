"""Labelled records: a question, its documents, and the sentences that answer it.

The format is one JSON object a line: `id`, `question`, `answerable`, `docs` of
`{"title", "text", "sents", "gold"}`; a document given as `{"ref", "gold"}` is found in
`<name>_docs.jsonl[.gz]` beside the file. Offsets are half-open code points.
"""

from __future__ import annotations

import gzip
import json
import random
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.record_checks import (
    check_labels,
    check_shape,
    checked_document,
    put_in_place,
)

Record = dict[str, Any]
DISTRACTORS = 5
_BETWEEN = "\n\n"
_SHARE = 0.9
"""A gold sentence counts as kept when so much of its visible text is."""


def read_jsonl(path: Path) -> Iterator[Record]:
    """One object a line, compressed or not; a bad line is named by its number."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _parsed(line, path, number)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _parsed(line: str, path: Path, number: int) -> Record:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}, line {number}: not JSON ({error})") from error
    if not isinstance(row, dict):
        raise BadInput(
            f"{path}, line {number}: a record is a JSON object, got {type(row).__name__}"
        )
    return row


def load(path: str | Path) -> list[Record]:
    """The records of a file with their documents in place.

    Raises:
        BadInput: no such file, a line that is not a record, a span outside its text, or a reference
            without its document.
    """
    path = Path(path)
    rows = list(read_jsonl(path))
    for number, row in enumerate(rows, 1):
        check_shape(row, path, number)
    if any("ref" in doc for row in rows for doc in row["docs"]):
        beside = _beside(path)
        stored = dict(
            checked_document(doc, beside, n) for n, doc in enumerate(read_jsonl(beside), 1)
        )
        for number, row in enumerate(rows, 1):
            row["docs"] = [put_in_place(doc, stored, path, number) for doc in row["docs"]]
    check_labels(rows, path)
    return rows


def id_of(record: Record) -> str:
    """What a record is called. BadInput: it has no name, and chance is drawn by it."""
    if not isinstance(name := record.get("id"), str | int):
        raise BadInput(
            f"the record of {record['question']!r:.60} has the 'id' {name!r}; give each its own"
        )
    return str(name)


def _beside(path: Path) -> Path:
    stem = path.name.split(".jsonl")[0]
    for ending in (".jsonl.gz", ".jsonl"):
        if (found := path.with_name(f"{stem}_docs{ending}")).is_file():
            return found
    raise BadInput(f"{path} refers to documents in {stem}_docs.jsonl[.gz], which is not beside it")


def lone(records: Sequence[Record]) -> bool:
    """Whether a set is of single short passages, which say little about choosing among several."""
    sizes = [sum(len(doc["text"]) for doc in record["docs"]) for record in records]
    return all(len(r["docs"]) == 1 for r in records) and sum(sizes) < 3000 * len(sizes)


def with_distractors(
    records: Sequence[Record], count: int = DISTRACTORS, seed: int = 0
) -> list[Record]:
    """Each record among `count` other passages of its set, shuffled.

    Up to half of them stand under the same title, where there are so many. What a record gets
    depends on its id and the seed alone, given the set.
    """
    pool = list({doc["text"]: doc for record in records for doc in record["docs"]}.values())
    if len(pool) <= count:
        raise BadInput(f"{count} distractors are wanted and the set has {len(pool)} passages")
    by_title: dict[str, list[Record]] = {}
    for doc in pool:
        by_title.setdefault(doc.get("title") or "", []).append(doc)
    return [_among(record, pool, by_title, count, seed) for record in records]


def _among(
    record: Record, pool: list[Record], by_title: dict[str, list[Record]], count: int, seed: int
) -> Record:
    chance = random.Random(f"{seed}:{id_of(record)}")
    own = {doc["text"] for doc in record["docs"]}
    near = [d for d in by_title[record["docs"][0].get("title") or ""] if d["text"] not in own]
    picked = chance.sample(near, min(len(near), count // 2))
    own |= {doc["text"] for doc in picked}
    while len(picked) < count:
        doc = chance.choice(pool)
        if doc["text"] not in own:
            own.add(doc["text"])
            picked.append(doc)
    docs = [*record["docs"], *({**doc, "gold": []} for doc in picked)]
    order = chance.sample(range(len(docs)), len(docs))
    moved = {old: new for new, old in enumerate(order)}
    spans = [[moved[d], a, b] for d, a, b in record.get("answer_spans", ())]
    return {**record, "docs": [docs[i] for i in order], "answer_spans": spans}


def passages_of(record: Record) -> list[Passage]:
    """The documents of a record as passages."""
    return [
        Passage(doc["text"], str(i), doc.get("title") or None)
        for i, doc in enumerate(record["docs"])
    ]


def annotated_units(record: Record) -> list[Unit]:
    """The data set's own sentences as units; empty ones are left out."""
    return [
        Unit(d, a, b, (a, b))
        for d, doc in enumerate(record["docs"])
        for a, b in doc["sents"]
        if doc["text"][a:b].strip()
    ]


def gold_spans(record: Record) -> list[tuple[int, int, int]]:
    """The gold sentences: document index, start, stop."""
    return [
        (d, *doc["sents"][i]) for d, doc in enumerate(record["docs"]) for i in doc.get("gold", ())
    ]


def visible_chars(text: str) -> int:
    """How many characters are not white space."""
    return len("".join(text.split()))


def is_covered(text: str, kept: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether enough of one gold sentence lies in kept spans, which do not overlap.

    Never of a sentence without a visible character: there is nothing to keep.
    """
    visible = visible_chars(text[start:stop])
    inside = sum(
        visible_chars(text[max(a, start) : min(b, stop)]) for a, b in kept if a < stop and start < b
    )
    return visible > 0 and inside >= _SHARE * visible - 1e-9


def labels(record: Record, units: Sequence[Unit]) -> list[bool]:
    """Which units answer: half of the unit, or of a gold sentence, is shared with gold."""
    gold = gold_spans(record)
    return [any(_overlaps(unit, span) for span in gold) for unit in units]


def _overlaps(unit: Unit, gold: tuple[int, int, int]) -> bool:
    doc, start, stop = gold
    a, b = unit.visible
    if unit.passage != doc:
        return False
    return 2 * (min(b, stop) - max(a, start)) >= max(1, min(b - a, stop - start))


def as_articles(records: Sequence[Record]) -> list[Record]:
    """Each record with its whole article as one document: every passage of the set under its title.

    Passages stand in the order of their first record, a blank line between them. A record whose
    passages have several titles, or none, is left out.
    """
    articles: dict[str, dict[str, Record]] = {}
    for record in records:
        for doc in record["docs"]:
            articles.setdefault(doc.get("title") or "", {})[doc["text"]] = doc
    joined = {title: _joined(title, list(docs.values())) for title, docs in articles.items()}
    kept = (r for r in records if len({d.get("title") for d in r["docs"]}) == 1)
    return [_in_article(r, *joined[r["docs"][0]["title"]]) for r in kept if r["docs"][0]["title"]]


def _joined(title: str, docs: Sequence[Record]) -> tuple[Record, dict[str, tuple[int, int]]]:
    """One document, and per passage text where it starts: at which character, at which sentence."""
    text, places = "", {}
    sents: list[list[int]] = []
    for doc in docs:
        places[doc["text"]] = (len(text), len(sents))
        sents += [[a + len(text), b + len(text)] for a, b in doc["sents"]]
        text += doc["text"] + _BETWEEN
    return {"title": title, "text": text.removesuffix(_BETWEEN), "sents": sents, "gold": []}, places


def _in_article(record: Record, article: Record, places: dict[str, tuple[int, int]]) -> Record:
    gold = [places[doc["text"]][1] + i for doc in record["docs"] for i in doc.get("gold", ())]
    spans = [
        [0, a + places[record["docs"][d]["text"]][0], b + places[record["docs"][d]["text"]][0]]
        for d, a, b in record.get("answer_spans", ())
    ]
    return {**record, "docs": [{**article, "gold": sorted(gold)}], "answer_spans": spans}
