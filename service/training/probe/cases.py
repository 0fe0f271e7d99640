"""Labelled questions, read: what a proxy saw of each of their sentences, and which are gold."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.words import Lexicon
from tamis.compressors.method import KeyedReading
from tamis.compressors.methods.question_rows import QuestionRows, first_features, isolated_features
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.service.datasets.readings import Looks
from tamis.service.datasets.records import (
    Record,
    annotated_units,
    as_articles,
    gold_spans,
    id_of,
    labels,
    load,
    lone,
    passages_of,
    with_distractors,
)

FOLDS = 5
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """One training file and how much of it to use.

    Attributes:
        limit: the most questions; of a file read as articles, the most on each.
        articles: join all passages under one title into one long document, and ask of that.
        called: what figures call it, where its file's name is not its own.
    """

    path: Path
    limit: int | None = None
    articles: bool = False
    called: str | None = None

    @property
    def name(self) -> str:
        """What figures call it."""
        if self.called is not None:
            return self.called
        return self.path.name.split(".")[0] + ("_articles" if self.articles else "")


def distinct(sources: Sequence[Source]) -> list[Source]:
    """The same, each under a name of its own: figures go by name.

    Files of one name are called by their folders too, and numbered where that is not enough.
    """
    names = [source.name for source in sources]
    longer = [
        f"{source.path.resolve().parent.name}/{name}" if names.count(name) > 1 else name
        for source, name in zip(sources, names, strict=True)
    ]
    found = []
    for i, (source, name) in enumerate(zip(sources, longer, strict=True)):
        before = longer[:i].count(name)
        found.append(replace(source, called=f"{name} {before + 1}" if before else name))
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled question, read: what is known of each unit, and which units are gold."""

    source: str
    fold: int
    record: Record
    first: Tensor
    lone: Tensor
    lexicon: Lexicon
    gold: Tensor
    tokens: tuple[int, ...]


def records_of(source: Source) -> list[Record]:
    """The answerable records of a file with gold sentences; lone passages get distractors.

    Raises:
        BadInput: no record of the file has a gold sentence.
    """
    rows = [r for r in load(source.path) if r.get("answerable", True) and gold_spans(r)]
    if not rows:
        raise BadInput(
            f"{source.path} has no answerable record with gold sentences; nothing can be learnt"
        )
    if source.articles:
        return _some_of_each(as_articles(rows), source.limit)
    if lone(rows):
        rows = with_distractors(rows)
    if source.limit and source.limit < len(rows):
        rows = [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), source.limit))]
    return rows


def absent_records(source: Source) -> list[Record]:
    """The records of a file that hold no answer; lone passages get distractors of the whole file.

    None for a file read as articles: elsewhere in an article the answer may well be.
    """
    rows = load(source.path)
    if source.articles or all(r.get("answerable", True) for r in rows):
        return []
    if lone(rows):
        rows = with_distractors(rows)
    return [r for r in rows if not r.get("answerable", True)]


def _some_of_each(records: Sequence[Record], most: int | None) -> list[Record]:
    """At most so many records of each article, articles in the order of their titles."""
    by_title: dict[str, list[Record]] = {}
    for record in records:
        by_title.setdefault(record["docs"][0]["title"], []).append(record)
    groups = (by_title[title] for title in sorted(by_title))
    return [r for g in groups for r in random.Random(0).sample(g, min(most or len(g), len(g)))]


def fold_of(record: Record) -> int:
    """A number below `FOLDS` that all questions on one article share."""
    docs = [record["docs"][d] for d, _, _ in gold_spans(record)] or record["docs"]
    title = next((doc.get("title") for doc in docs), None)
    key = (title or id_of(record)).replace("_", " ").casefold()
    return hashlib.sha256(key.encode()).digest()[0] % FOLDS


def read_cases(
    method: QuestionRows,
    sources: Sequence[Source],
    cache: Path,
    report: Report,
    exit_layer: int | None = None,
) -> Iterator[Case]:
    """Reads every record of every source, or finds what was read before.

    Of a deeper reading than is wanted, the layers up to `exit_layer` are taken.
    """
    looks = Looks(cache, look_key(method))
    for source in sources:
        records = records_of(source)
        for i, record in enumerate(records, 1):
            units = annotated_units(record)
            gold = torch.tensor(labels(record, units))
            if gold.any() and not gold.all():
                yield _case(source.name, record, looks, method, gold, exit_layer)
            report(source.name, i, len(records))


def read_absent(
    method: QuestionRows,
    sources: Sequence[Source],
    cache: Path,
    report: Report,
    exit_layer: int | None = None,
) -> Iterator[Case]:
    """Likewise every record that holds no answer; none of its units is gold."""
    looks = Looks(cache, look_key(method))
    for source in sources:
        records = absent_records(source)
        for i, record in enumerate(records, 1):
            if units := annotated_units(record):
                gold = torch.zeros(len(units), dtype=torch.bool)
                yield _case(source.name, record, looks, method, gold, exit_layer)
            report(f"{source.name}, no answer", i, len(records))


def _case(
    name: str,
    record: Record,
    looks: Looks,
    method: QuestionRows,
    gold: Tensor,
    exit_layer: int | None,
) -> Case:
    passages, units = passages_of(record), annotated_units(record)
    look = looks.get(record["question"], passages, units, method.read)
    if exit_layer:
        look = shallower(look, method.layers, exit_layer)
    return case_of(name, record, look, gold)


def shallower(look: Reading, layers: int, exit_layer: int) -> Reading:
    """The reading of fewer layers in one of `layers`: no attention depends on what follows it.

    Features are `[U, 2·L·H]`, the means of all heads layer by layer, then their maxima.
    """
    by_layer = look.features.view(len(look.features), 2, layers, -1)
    return replace(look, features=by_layer[:, :, :exit_layer].flatten(1))


def case_of(name: str, record: Record, look: Reading, gold: Tensor) -> Case:
    """A labelled question with what was seen of it."""
    passages, units = passages_of(record), annotated_units(record)
    lexicon = Lexicon(record["question"], passages, units)
    first = first_features(look, record["question"], lexicon)
    lone_ = isolated_features(look)
    return Case(name, fold_of(record), record, first, lone_, lexicon, gold, look.tokens)


def look_key(method: KeyedReading) -> str:
    """What a stored reading depends on, beside the case itself."""
    card, template = method.reader.card, method.reader.layout.template.name
    dtype = str(getattr(method.reader, "proxy", method.reader).dtype).removeprefix("torch.")
    kind = type(method).__name__
    return f"{kind} {card.name} {card.revision} {dtype} {template} {method.reading_key}"


def described(source: Source, questions: int | None) -> dict[str, Any]:
    """A training file for a probe's card: its name, its hash, and how many questions were used."""
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    return {"name": source.name, "sha256": digest, "questions": questions}
