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
from tamis.service.datasets.case_readings import Looks
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
