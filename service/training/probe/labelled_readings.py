"""Labelled questions, read: the features of each of their sentences, and which are gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.words import Lexicon
from tamis.compressors.methods.question_rows import QuestionRows, first_features, isolated_features
from tamis.compressors.reading.windows import Reading
from tamis.probes.text import Unit
from tamis.service.datasets.case_readings import CaseReadings, store_key
from tamis.service.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    fold_of,
    unanswerable_records,
)
from tamis.service.datasets.records import Record, annotated_units, gold_labels, passages_of


@dataclass(frozen=True, slots=True)
class LabelledReading:
    """One labelled question, read: what is known of each of its U units, and which are gold.

    Attributes:
        source: the name of its file. fold: that of its article.
        first: features of the probe's first step, `[U, F]`.
        isolated: features that do not depend on the other units, `[U, 2·L·H + 1]`.
        lexicon: the words of question and units. gold: `[U]` bool.
        tokens: proxy tokens of each unit.
    """

    source: str
    fold: int
    record: Record
    first: Tensor
    isolated: Tensor
    lexicon: Lexicon
    gold: Tensor
    tokens: tuple[int, ...]


def read_answerable(
    method: QuestionRows,
    files: Sequence[RecordFile],
    cache: Path,
    report: ReportProgress,
    exit_layer: int | None = None,
) -> Iterator[LabelledReading]:
    """Reads every answerable record that has both gold and other units, or finds its kept reading.

    Args:
        exit_layer: take the layers up to this one, of a deeper reading.
    """
    readings = CaseReadings(cache, store_key(method))
    for file in files:
        records = answerable_records(file)
        for i, record in enumerate(records, 1):
            units = annotated_units(record)
            gold = torch.tensor(gold_labels(record, units))
            if gold.any() and not gold.all():
                reading = _read_record(record, units, readings, method, exit_layer)
                yield label_reading(file.name, record, reading, gold)
            report(file.name, i, len(records))


def read_unanswerable(
    method: QuestionRows,
    files: Sequence[RecordFile],
    cache: Path,
    report: ReportProgress,
    exit_layer: int | None = None,
) -> Iterator[LabelledReading]:
    """Likewise every record that holds no answer; none of its units is gold."""
    readings = CaseReadings(cache, store_key(method))
    for file in files:
        records = unanswerable_records(file)
        for i, record in enumerate(records, 1):
            if units := annotated_units(record):
                gold = torch.zeros(len(units), dtype=torch.bool)
                reading = _read_record(record, units, readings, method, exit_layer)
                yield label_reading(file.name, record, reading, gold)
            report(f"{file.name}, no answer", i, len(records))


def _read_record(
    record: Record,
    units: Sequence[Unit],
    readings: CaseReadings,
    method: QuestionRows,
    exit_layer: int | None,
) -> Reading:
    reading = readings.get_or_read(record["question"], passages_of(record), units, method.read)
    return cut_to_exit_layer(reading, method.layers, exit_layer) if exit_layer else reading


def cut_to_exit_layer(reading: Reading, layers: int, exit_layer: int) -> Reading:
    """The reading of fewer layers in one of `layers`: no attention depends on deeper layers.

    Features are `[U, 2·L·H]`, the means of all heads layer by layer, then their maxima.
    """
    by_layer = reading.features.view(len(reading.features), 2, layers, -1)
    return replace(reading, features=by_layer[:, :, :exit_layer].flatten(1))


def label_reading(source: str, record: Record, reading: Reading, gold: Tensor) -> LabelledReading:
    """A record with the reading of its annotated units.

    Args:
        source: the name of the record's file. gold: `[U]` bool.
    """
    passages, units = passages_of(record), annotated_units(record)
    lexicon = Lexicon(record["question"], passages, units)
    first = first_features(reading, record["question"], lexicon)
    isolated = isolated_features(reading)
    fold = fold_of(record)
    return LabelledReading(source, fold, record, first, isolated, lexicon, gold, reading.tokens)
