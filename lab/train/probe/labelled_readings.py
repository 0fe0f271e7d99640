"""Labelled questions, read: the features of each of their sentences, and which are gold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.second_step import RequestTexts, first_features, isolated_features
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import Reading
from tamis.text.types import Unit
from tamis_lab.datasets.domains import domain_of
from tamis_lab.datasets.excerpts import excerpt_records
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    fold_of,
    records_among,
    unanswerable_records,
)
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.datasets.score_sources import ScoreSource

HARD_UNITS = 96


@dataclass(frozen=True, slots=True)
class LabelledReading:
    """One labelled question, read: what is known of each of its U units, and which are gold.

    Attributes:
        source: the name of its file. domain: the record's own, or that of its file. fold: that of
            its article.
        first: features of the probe's first step, `[U, F]`.
        isolated: features that do not depend on the other units, `[U, 2·L·H + 1]`.
        texts: the words and the structure of its units. gold: `[U]` bool.
        cosines: of each unit with the question by an encoder, `[U]`; None without one.
    """

    source: str
    domain: str
    fold: int
    record: Record
    first: Tensor
    isolated: Tensor
    texts: RequestTexts
    gold: Tensor
    cosines: Tensor | None = None

    @property
    def tokens(self) -> Sequence[int]:
        """Proxy tokens of each unit."""
        return self.texts.tokens


class RecordReader:
    """Reads labelled records by one method, or finds their kept readings.

    Units are those that tamis finds, as in use.
    """

    def __init__(
        self,
        method: QuestionRows,
        cache: Path,
        exit_layer: int | None = None,
        cosines: ScoreSource | None = None,
    ) -> None:
        """Readings are kept in `cache`.

        Args:
            exit_layer: take the layers up to this one, of a deeper reading.
            cosines: an encoder's, as `encoder_source` makes it; None for none.
        """
        self.method, self.exit_layer, self.cosines = method, exit_layer, cosines
        self.readings = CaseReadings(cache, store_key(method))

    def read_answerable(
        self, files: Sequence[RecordFile], report: ReportProgress
    ) -> Iterator[LabelledReading]:
        """Every answerable record that has both gold and other units."""
        for file in files:
            yield from self._read_each(file, answerable_records(file), file.name, report, True)

    def read_among(
        self, files: Sequence[RecordFile], documents: int, report: ReportProgress
    ) -> Iterator[LabelledReading]:
        """Every answerable record among other passages of its file, `documents` in all."""
        for file in files:
            name = f"{file.name}, {documents} documents"
            yield from self._read_each(file, records_among(file, documents), name, report, True)

    def read_unanswerable(
        self, files: Sequence[RecordFile], report: ReportProgress
    ) -> Iterator[LabelledReading]:
        """Likewise every record that holds no answer; none of its units is gold."""
        for file in files:
            name = f"{file.name}, no answer"
            yield from self._read_each(file, unanswerable_records(file), name, report, False)

    def read_excerpts(
        self, files: Sequence[RecordFile], report: ReportProgress
    ) -> Iterator[LabelledReading]:
        """A few sentences of some answerable records each, with their evidence or without any."""
        for file in files:
            if not file.articles:
                records = excerpt_records(answerable_records(file))
                name = f"{file.name}, excerpts"
                yield from self._read_each(file, records, name, report, False)

    def _read_each(
        self,
        file: RecordFile,
        records: Sequence[Record],
        name: str,
        report: ReportProgress,
        mixed: bool,
    ) -> Iterator[LabelledReading]:
        """Records with units; if `mixed`, those that have both gold and others, with cosines."""
        of_file = domain_of(file)
        for i, record in enumerate(records, 1):
            answers = record.get("answerable", True)
            labels = [answers and gold for gold in gold_labels(record, request_units(record))]
            if {*labels} == {True, False} if mixed else labels:
                gold, domain = torch.tensor(labels), record.get("domain", of_file)
                yield self.read(file.name, domain, record, gold, with_cosines=mixed)
            report(name, i, len(records))

    def read(
        self,
        source: str,
        domain: str,
        record: Record,
        gold: Tensor,
        with_cosines: bool = True,
    ) -> LabelledReading:
        """One record's reading."""
        case = record["question"], passages_of(record), request_units(record)
        reading = self.readings.get_or_read(*case, self.method.read)
        if self.exit_layer:
            reading = cut_to_exit_layer(reading, self.method.layers, self.exit_layer)
        if self.cosines is not None and with_cosines:
            values = self.cosines.score_case(*case).scores.values
            reading = replace(reading, cosines=torch.tensor(values))
        return label_reading(source, domain, record, case[2], reading, gold)


def hard_units(case: LabelledReading, most: int = HARD_UNITS) -> Tensor:
    """The units to fit on, ascending: gold, and of the others the hardest and some at random.

    A listwise loss hardly sees easy units, and a meeting has a thousand of them. A unit is hard
    where attention or the words of the question come to it.
    """
    if len(case.gold) <= most:
        return torch.arange(len(case.gold))
    heads = case.isolated.shape[1] // 2
    attention = case.isolated[:, heads : 2 * heads].mean(1)
    bm25 = case.first[:, -len(WORD_FEATURES) + WORD_FEATURES.index("bm25_z")]
    hardness = (attention - attention.mean()) / attention.std().clamp_min(1e-6) + bm25
    hardness[case.gold] = torch.inf
    order = hardness.argsort(descending=True, stable=True)
    hard = order[: most * 3 // 4]
    rest = order[most * 3 // 4 :]
    random = torch.Generator().manual_seed(0)
    drawn = rest[torch.randperm(len(rest), generator=random)[: most // 4]]
    return torch.cat([hard, drawn]).sort().values


def cut_to_exit_layer(reading: Reading, layers: int, exit_layer: int) -> Reading:
    """The reading of fewer layers in one of `layers`: no attention depends on deeper layers.

    Features are `[U, 2·L·H]`, the means of all heads layer by layer, then their maxima.
    """
    by_layer = reading.features.view(len(reading.features), 2, layers, -1)
    return replace(reading, features=by_layer[:, :, :exit_layer].flatten(1))


def label_reading(
    source: str,
    domain: str,
    record: Record,
    units: Sequence[Unit],
    reading: Reading,
    gold: Tensor,
) -> LabelledReading:
    """A record with the reading of its units.

    Args:
        source, domain: of the record's file. gold: `[U]` bool.
    """
    texts = RequestTexts.of(record["question"], passages_of(record), units, reading.tokens)
    first = first_features(reading, record["question"], texts.lexicon)
    isolated = isolated_features(reading)
    fold = fold_of(record)
    return LabelledReading(
        source, domain, fold, record, first, isolated, texts, gold, reading.cosines
    )
