"""Files of labelled records for training or measuring: which records, and the files' names.

file ─ answerable records with gold ─ distractors, or whole articles ─ at most `limit` ─► records
     └ unanswerable records ─ distractors ─► records without gold
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import (
    Record,
    add_distractors,
    are_single_passages,
    gold_spans,
    join_articles,
    load_records,
    record_id,
)

FOLDS = 5
ReportProgress = Callable[[str, int, int], None]
"""Called with the file's name, the number of its records that are done, and of all its records."""


class NoGold(BadInput):
    """A file has no answerable record with gold sentences."""


@dataclass(frozen=True, slots=True)
class RecordFile:
    """One file of labelled records and how much of it to use.

    Attributes:
        limit: the most questions with an answer, and the most without; of a file read as articles,
            the most on each.
        articles: join all passages under one title into one long document, and ask about that.
        display_name: what figures call it, where the file's own name is ambiguous.
    """

    path: Path
    limit: int | None = None
    articles: bool = False
    display_name: str | None = None

    @property
    def name(self) -> str:
        """What figures call it."""
        if self.display_name is not None:
            return self.display_name
        return self.path.name.split(".")[0] + ("_articles" if self.articles else "")


def name_distinctly(files: Sequence[RecordFile]) -> list[RecordFile]:
    """The same files, each under a name of its own, because figures are grouped by name.

    Files of the same name get their folder's name in front, and a number where that is not enough.
    """
    names = [file.name for file in files]
    longer = [
        f"{file.path.resolve().parent.name}/{name}" if names.count(name) > 1 else name
        for file, name in zip(files, names, strict=True)
    ]
    named = []
    for i, (file, name) in enumerate(zip(files, longer, strict=True)):
        before = longer[:i].count(name)
        named.append(replace(file, display_name=f"{name} {before + 1}" if before else name))
    return named


def answerable_records(file: RecordFile) -> list[Record]:
    """The answerable records of a file with gold sentences; single passages get distractors.

    Raises:
        NoGold: no record of the file has a gold sentence.
    """
    rows = [r for r in load_records(file.path) if r.get("answerable", True) and gold_spans(r)]
    if not rows:
        raise NoGold(
            f"{file.path} has no answerable record with gold sentences; nothing can be learnt"
        )
    if file.articles:
        return _limit_each_article(join_articles(rows), file.limit)
    if are_single_passages(rows):
        rows = add_distractors(rows)
    return sample_records(rows, file.limit)


def records_among(file: RecordFile, documents: int) -> list[Record]:
    """Answerable records, each among passages of others: `documents` in all, or its own if more.

    A file with fewer passages gives all it has.
    """
    rows = [r for r in load_records(file.path) if r.get("answerable", True) and gold_spans(r)]
    chosen = sample_records(rows, file.limit)
    passages = len({doc["text"] for record in rows for doc in record["docs"]})
    return [
        add_distractors([record], count, pool=rows)[0] if count > 0 else record
        for record in chosen
        for count in [min(documents, passages - 1) - len(record["docs"])]
    ]


def sample_records(records: list[Record], limit: int | None) -> list[Record]:
    """At most so many records, in their order; a higher limit adds to those of a lower one."""
    if not limit or limit >= len(records):
        return records
    ranks = [hashlib.sha256(f"0:{record_id(r)}".encode()).digest() for r in records]
    drawn = sorted(range(len(records)), key=lambda i: ranks[i])[:limit]
    return [records[i] for i in sorted(drawn)]


def sample_questions(questions: Sequence[str], limit: int) -> list[int]:
    """The places of at most so many questions, in order; a higher limit adds to those of a lower.

    Those of fold 0, which no fit of rankings sees, are drawn before all others.
    """
    drawn = sorted(
        range(len(questions)),
        key=lambda i: (question_fold(questions[i]) > 0, _digest(f"0:{questions[i]}")),
    )
    return sorted(drawn[:limit])


def unanswerable_records(file: RecordFile) -> list[Record]:
    """The records of a file without an answer; single passages get distractors of the whole file.

    At most `limit`, as of those with an answer. None for a file read as articles: the answer may
    well be elsewhere in the article.
    """
    rows = load_records(file.path)
    if file.articles or all(r.get("answerable", True) for r in rows):
        return []
    if are_single_passages(rows):
        rows = add_distractors(rows)
    return sample_records([r for r in rows if not r.get("answerable", True)], file.limit)


def _limit_each_article(records: Sequence[Record], most: int | None) -> list[Record]:
    """At most so many records of each article, articles in the order of their titles."""
    by_title: dict[str, list[Record]] = {}
    for record in records:
        by_title.setdefault(record["docs"][0]["title"], []).append(record)
    groups = (by_title[title] for title in sorted(by_title))
    return [r for g in groups for r in random.Random(0).sample(g, min(most or len(g), len(g)))]


def fold_of(record: Record) -> int:
    """A number below `FOLDS` that all questions on one article, or of one group, share."""
    docs = [record["docs"][d] for d, _, _ in gold_spans(record)] or record["docs"]
    title = next((doc.get("title") for doc in docs), None)
    key = (record.get("group") or title or record_id(record)).replace("_", " ").casefold()
    return hashlib.sha256(key.encode()).digest()[0] % FOLDS


def question_fold(question: str) -> int:
    """A number below `FOLDS`; a fit of rankings leaves out the questions of fold 0."""
    return _digest(question)[0] % FOLDS


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def describe_file(file: RecordFile, questions: int | None) -> dict[str, Any]:
    """A file for a probe's card: its name, its hash, and how many of its questions were used."""
    return {"name": file.name, "sha256": file_sha256(file.path), "questions": questions}


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, which identifies the data that figures are about."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
