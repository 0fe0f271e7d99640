"""The labelled readings of every domain: sets to fit on, and sets that are only judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.model.proxy import Proxy
from tamis_lab.datasets.domains import find_domain_files
from tamis_lab.datasets.reading_store import cached_reader
from tamis_lab.datasets.record_files import (
    NoGold,
    RecordFile,
    ReportProgress,
    name_distinctly,
)
from tamis_lab.datasets.score_sources import installed_encoder_source
from tamis_lab.train.probe.labelled_readings import LabelledReading, RecordReader


@dataclass(frozen=True, slots=True)
class Sides:
    """Folders of sets to fit on and judge, folders of sets to judge alone, and how much of each.

    Attributes:
        limit, judge_limit: the most questions of a set.
    """

    fitted: Sequence[Path]
    limit: int
    judged: Sequence[Path] = ()
    judge_limit: int = 120


def read_domains(
    proxy: Proxy,
    layers: int,
    sides: Sides,
    cache: Path,
    report: ReportProgress,
) -> tuple[list[LabelledReading], list[LabelledReading]]:
    """The readings of the sets in folders to fit on, and of those in folders to judge alone.

    Files without a labelled question, and files to judge of a domain that nothing is fitted on, are
    passed over. Cosines are read where the encoder is installed.

    Args:
        cache: where readings are kept.

    Raises:
        BadInput: a folder has no labelled file.
    """
    method = QuestionRows.for_fit(cached_reader(proxy), layers)
    reader = RecordReader(method, cache, cosines=installed_encoder_source(cache))
    fitted = find_domain_files(list(sides.fitted))
    judged = find_domain_files(list(sides.judged)) if sides.judged else {}
    files = [RecordFile(path, sides.limit) for paths in fitted.values() for path in paths]
    others = [
        RecordFile(path, sides.judge_limit) for domain in fitted for path in judged.get(domain, ())
    ]
    named = name_distinctly([*files, *others])
    found = [_read(reader, file, report) for file in named]
    return (
        [case for cases in found[: len(files)] for case in cases],
        [case for cases in found[len(files) :] for case in cases],
    )


def _read(reader: RecordReader, file: RecordFile, report: ReportProgress) -> list[LabelledReading]:
    try:
        return list(reader.read_answerable([file], report))
    except NoGold:
        return []
