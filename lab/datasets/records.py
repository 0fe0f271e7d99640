"""Labelled records: a question, its documents, and the sentences that answer it.

The format is one JSON object a line: `id`, `question`, `answerable`, `docs` of
`{"title", "text", "sents", "gold"}`; a document given as `{"ref", "gold"}` is found in
`<name>_docs.jsonl[.gz]` beside the file. Offsets are half-open code points. Documents with
questions and marked lines are taken, too, as `tamis lab bench real` asks them.
"""

from __future__ import annotations

import hashlib
import io
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.files.streams import open_unpacked, read_json_lines
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tamis_lab.datasets.marked_documents import is_marked_document, records_of, share_half
from tamis_lab.datasets.record_checks import (
    check_document,
    check_labels,
    check_shape,
    resolve_reference,
)

Record = dict[str, Any]
T = TypeVar("T")
DISTRACTORS = 5
_BETWEEN = "\n\n"
_COVERED_SHARE = 0.9
"""A gold sentence counts as kept when this share of its visible characters is."""


def read_text(path: Path) -> str:
    """The text of a file, packed or not.

    Raises:
        BadInput: it cannot be read as UTF-8.
    """
    try:
        with io.TextIOWrapper(open_unpacked(str(path)), "utf-8") as file:
            return file.read()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be read as UTF-8 text: {error}") from error


def take_evenly(items: Sequence[T], max_count: int) -> list[T]:
    """At most so many of the items, at even distances."""
    count = min(max_count, len(items))
    return [items[i * len(items) // count] for i in range(count)]


def load_records(path: str | Path) -> list[Record]:
    """The records of a file with their documents in place.

    Raises:
        BadInput: no such file, a line that is not a record, a span outside its text, or a reference
            without its document.
    """
    path = Path(path)
    numbered = list(_questions_of(path))
    for number, row in numbered:
        check_shape(row, path, number)
    rows = [row for _, row in numbered]
    if any("ref" in doc for row in rows for doc in row["docs"]):
        beside = _documents_path(path)
        stored = dict(check_document(doc, beside, n) for n, doc in read_json_lines(beside))
        for number, row in numbered:
            row["docs"] = [resolve_reference(doc, stored, path, number) for doc in row["docs"]]
    check_labels(rows, path)
    return rows


def _questions_of(path: Path) -> Iterator[tuple[int, Record]]:
    """Each row with its line; of a document with questions, a record for each."""
    for number, row in read_json_lines(path):
        if not is_marked_document(row):
            yield number, row
            continue
        try:
            yield from ((number, record) for record in records_of(row))
        except (LookupError, TypeError) as error:
            raise BadInput(
                f"{path}, line {number} is no document with marked lines ({error!r}); see "
                "'tamis lab bench real --help'"
            ) from error


def record_id(record: Record) -> str:
    """The `id` of a record, which also seeds whatever is drawn at random for it.

    Raises:
        BadInput: it has none.
    """
    if not isinstance(name := record.get("id"), str | int):
        raise BadInput(
            f"the record of {record['question']!r:.60} has the 'id' {name!r}; give each its own"
        )
    return str(name)


def _documents_path(path: Path) -> Path:
    stem = path.name.split(".jsonl")[0]
    for ending in (".jsonl.gz", ".jsonl"):
        if (found := path.with_name(f"{stem}_docs{ending}")).is_file():
            return found
    raise BadInput(f"{path} refers to documents in {stem}_docs.jsonl[.gz], which is not beside it")


def are_single_passages(records: Sequence[Record]) -> bool:
    """Whether every record is one passage, below 3,000 characters on average: little to select."""
    sizes = [sum(len(doc["text"]) for doc in record["docs"]) for record in records]
    return all(len(r["docs"]) == 1 for r in records) and sum(sizes) < 3000 * len(sizes)


def add_distractors(
    records: Sequence[Record],
    count: int = DISTRACTORS,
    seed: int = 0,
    pool: Sequence[Record] | None = None,
) -> list[Record]:
    """Each record among `count` other passages of its set, shuffled.

    Up to half of them have the same title, where there are so many. Given the set, what a record
    gets depends on its id and the seed alone.

    Args:
        pool: the records of the set, where these are some of them.
    """
    whole = records if pool is None else pool
    passages = list({doc["text"]: doc for record in whole for doc in record["docs"]}.values())
    if len(passages) <= count:
        raise BadInput(f"{count} distractors are wanted and the set has {len(passages)} passages")
    by_title: dict[str, list[Record]] = {}
    for doc in passages:
        by_title.setdefault(doc.get("title") or "", []).append(doc)
    return [_add_distractors(record, passages, by_title, count, seed) for record in records]


def _add_distractors(
    record: Record, pool: list[Record], by_title: dict[str, list[Record]], count: int, seed: int
) -> Record:
    chance = random.Random(f"{seed}:{record_id(record)}")
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
    new_index = {old: new for new, old in enumerate(order)}
    spans = [[new_index[d], a, b] for d, a, b in record.get("answer_spans", ())]
    return {**record, "docs": [docs[i] for i in order], "answer_spans": spans}


def has_gold(record: Record) -> bool:
    """Whether any sentence of the record is gold."""
    return bool(gold_spans(record))


def sample_records(
    path: Path,
    count: int | None,
    is_usable: Callable[[Record], bool],
    counter: TextTokenizer,
    fill_tokens: int | None = None,
    seed: int = 0,
) -> list[Record]:
    """The first records of a set, in an order that only the seed determines.

    Single passages get distractors, of the whole set.

    Args:
        count: the most records; None for all. is_usable: records that it refuses are left out.
        counter: counts `fill_tokens`.
        fill_tokens: each context is filled with passages of the set's other records, under other
            titles, up to so many; None leaves contexts as they are.

    Raises:
        BadInput: the file holds no records, or its passages have too few tokens.
    """
    records = load_records(path)
    records = add_distractors(records, seed=seed) if are_single_passages(records) else records
    usable = sorted(
        (record for record in records if is_usable(record)),
        key=lambda r: hashlib.sha256(f"{seed}:{r['id']}".encode()).digest(),
    )[:count]
    if fill_tokens is None:
        return usable
    return [_fill_context(record, records, fill_tokens, counter, seed) for record in usable]


def _fill_context(
    record: Record, pool: Sequence[Record], tokens: int, counter: TextTokenizer, seed: int
) -> Record:
    generator = random.Random(f"{seed}:{record_id(record)}:{tokens}")
    docs, titles = list(record["docs"]), {doc.get("title") for doc in record["docs"]}
    total = counter.count(join_documents(docs))
    for other in generator.sample(pool, len(pool)):
        for doc in other["docs"]:
            if doc.get("title") in titles:
                continue
            total += counter.count(join_documents([doc]) + _BETWEEN)
            if total > tokens:
                return {**record, "docs": generator.sample(docs, len(docs))}
            docs.append({**doc, "gold": []})
            titles.add(doc.get("title"))
    raise BadInput(
        f"all passages of the set have {total:,} tokens and {tokens:,} are wanted; ask for fewer"
    )


def join_documents(docs: Sequence[Record]) -> str:
    """The text of all documents under their titles, with blank lines between them."""
    return _BETWEEN.join(
        f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"] for doc in docs
    )


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


def request_units(record: Record) -> list[Unit]:
    """The units that tamis finds in the documents of a record, in the record's own language."""
    return units_of(passages_of(record), str(record.get("lang") or "en"))


def gold_spans(record: Record) -> list[tuple[int, int, int]]:
    """The gold sentences: document index, start, stop."""
    return [
        (d, *doc["sents"][i]) for d, doc in enumerate(record["docs"]) for i in doc.get("gold", ())
    ]


def count_visible_chars(text: str) -> int:
    """How many characters are not white space."""
    return len("".join(text.split()))


def is_covered(text: str, kept: Sequence[tuple[int, int]], start: int, stop: int) -> bool:
    """Whether enough of one gold sentence is in kept spans, which do not overlap.

    Never true of a sentence without a visible character, which leaves nothing to keep.
    """
    visible = count_visible_chars(text[start:stop])
    inside = sum(
        count_visible_chars(text[max(a, start) : min(b, stop)])
        for a, b in kept
        if a < stop and start < b
    )
    return visible > 0 and inside >= _COVERED_SHARE * visible - 1e-9


def gold_labels(record: Record, units: Sequence[Unit]) -> list[bool]:
    """Which units are gold: at least half of the unit, or of a gold sentence, is in both."""
    gold = gold_spans(record)
    return [
        any(doc == unit.passage and share_half(unit.visible, span) for doc, *span in gold)
        for unit in units
    ]


def join_articles(records: Sequence[Record]) -> list[Record]:
    """Each record with its whole article as one document: all passages of the set with its title.

    Passages are in the order of the first record that has each, a blank line between them. A record
    whose passages have several titles, or none, is left out.
    """
    articles: dict[str, dict[str, Record]] = {}
    for record in records:
        for doc in record["docs"]:
            articles.setdefault(doc.get("title") or "", {})[doc["text"]] = doc
    joined = {
        title: _join_into_article(title, list(docs.values())) for title, docs in articles.items()
    }
    kept = (r for r in records if len({d.get("title") for d in r["docs"]}) == 1)
    return [
        _move_into_article(r, *joined[r["docs"][0]["title"]]) for r in kept if r["docs"][0]["title"]
    ]


def _join_into_article(
    title: str, docs: Sequence[Record]
) -> tuple[Record, dict[str, tuple[int, int]]]:
    """One document, and by passage text where the passage starts: its character, its sentence."""
    text, starts = "", {}
    sents: list[list[int]] = []
    for doc in docs:
        starts[doc["text"]] = (len(text), len(sents))
        sents += [[a + len(text), b + len(text)] for a, b in doc["sents"]]
        text += doc["text"] + _BETWEEN
    return {"title": title, "text": text.removesuffix(_BETWEEN), "sents": sents, "gold": []}, starts


def _move_into_article(
    record: Record, article: Record, starts: dict[str, tuple[int, int]]
) -> Record:
    gold = [starts[doc["text"]][1] + i for doc in record["docs"] for i in doc.get("gold", ())]
    spans = [
        [0, a + starts[record["docs"][d]["text"]][0], b + starts[record["docs"][d]["text"]][0]]
        for d, a, b in record.get("answer_spans", ())
    ]
    return {**record, "docs": [{**article, "gold": sorted(gold)}], "answer_spans": spans}
