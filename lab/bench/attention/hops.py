"""Multi-hop questions, whose facts must be chained: what does each way of reading gain?

    training ─ read in each way ─► features ─ cross-fit ─► weights ─┐
    judged ─── read in each way ─► features ────────────────────────┴► scores ─► gold kept

Every way (see `hops_ways`) has the word features and the second step of the default method, and
weights fitted to it on the same questions. A second reading depends on the units that survive the
first. For a training question, survivors are chosen by weights that were not fitted on its article,
so that they are as good as those of a judged question.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tamis.compressors.method import best_unit_scores
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.attention.hops_ways import REFERENCE_WAY, WayReader, WayWeights
from tamis_lab.bench.evidence.panel import Panel
from tamis_lab.bench.evidence.tally import (
    RecordProgress,
    evidence_figures,
    load_gold_records,
    record_progress,
    tally_evidence,
)
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    file_sha256,
    fold_of,
)
from tamis_lab.datasets.records import Record, annotated_units, gold_labels, passages_of
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.train.probe.fitting import fit_ordering
from tamis_lab.train.probe.labelled_readings import LabelledReading, label_reading


class WaySource:
    """The score source of one way with its weights.

    Attributes:
        tokens_read: one number for each question scored.
    """

    def __init__(self, ways: WayReader, way: str, weights: WayWeights) -> None:
        self.ways, self.way, self.weights = ways, way, weights
        self.tokens_read: list[int] = []

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Scores of every unit, and the milliseconds of reading and scoring."""
        case = question, passages, units
        reading = self.ways.read(self.way, case)
        self.tokens_read.append(reading.tokens_read)
        clock = time.perf_counter()
        values = tuple(self.weights.scores(reading, case).tolist())
        scoring_ms = (time.perf_counter() - clock) * 1e3
        passage_scores = best_unit_scores(values, units, len(passages))
        ms = sum(reading.timings_ms.values()) + scoring_ms
        return TimedScores(Scores(values, passage_scores), ms)


def compare_ways(
    ways: WayReader,
    names: Sequence[str],
    train: Sequence[RecordFile],
    judge: Sequence[RecordFile],
    budgets: Sequence[float],
    counter: TextTokenizer,
    report: ReportProgress,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits every way on the training files and judges it by the other files.

    Where `whole` is among the ways, contexts that do not fit into one prompt are left out for all.

    Args:
        names: of ways, as `order_ways` returns them.
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        report: called with the name of a step, how much of it is done, and its total.

    Raises:
        BadInput: nothing can be fitted or judged.
    """
    train_records = {file: answerable_records(file) for file in train}
    judge_records = {file: load_gold_records(file.path, file.limit, seed)[0] for file in judge}
    fit_on, judged = (
        readable_records(ways, records, "whole" in names)
        for records in (train_records, judge_records)
    )
    weights = fit_ways(ways, names, [row for rows in fit_on.values() for row in rows], report)
    sets = {}
    for file, rows in judged.items():
        progress = record_progress(report, f"judge, {file.name}", len(rows))
        figures = way_figures(ways, weights, rows, budgets, counter, progress, seed)
        sets[file.name] = {**figures, **_count_too_long(judge_records, judged, file)}
        sets[file.name]["sha256"] = file_sha256(file.path)
    fit_files = [
        describe_file(file, len(rows)) | _count_too_long(train_records, fit_on, file)
        for file, rows in fit_on.items()
    ]
    return {"train": fit_files, "sets": sets}


def _count_too_long(
    records: Mapping[RecordFile, Sequence[Record]],
    readable: Mapping[RecordFile, Sequence[Record]],
    file: RecordFile,
) -> dict[str, int]:
    return {"too_long": len(records[file]) - len(readable[file])}


def readable_records(
    ways: WayReader, files: Mapping[RecordFile, list[Record]], at_once: bool
) -> dict[RecordFile, list[Record]]:
    """The records that all ways can read.

    Args:
        at_once: whether `whole`, which reads all passages in one prompt, is among the ways.

    Raises:
        BadInput: no record of a file is left.
    """
    if not at_once:
        return dict(files)
    readable = {file: list(filter(ways.fits_one_prompt, rows)) for file, rows in files.items()}
    for file, rows in readable.items():
        if not rows:
            raise BadInput(
                f"none of the {len(files[file])} contexts of {file.path} fits into one prompt "
                f"of {ways.whole.window_tokens} tokens; leave out the way 'whole'"
            )
    return readable


def fit_ways(
    ways: WayReader, names: Sequence[str], train: Sequence[Record], report: ReportProgress
) -> dict[str, WayWeights]:
    """Fits the weights of every way on the same questions.

    Raises:
        BadInput: the questions are on one article, or no unit of any is gold.
    """
    weights: dict[str, WayWeights] = {}
    for way in names:
        cases = []
        for done, record in enumerate(train, 1):
            cases += training_case(ways, way, record)
            report(f"train, {way}", done, len(train))
        if len({case.fold for case in cases}) < 2:
            raise BadInput(
                f"{len(cases)} training questions are on too few articles: some have to be scored "
                "by weights that never saw theirs; give more questions"
            )
        _, *steps = fit_ordering(cases)
        weights[way] = WayWeights(*steps)
        if way == REFERENCE_WAY:
            ways.first_pass = weights[way]
    return weights


def training_case(ways: WayReader, way: str, record: Record) -> list[LabelledReading]:
    """One way's reading of a training question; none if all of its units are gold, or none is."""
    units = annotated_units(record)
    gold = torch.tensor(gold_labels(record, units))
    if not gold.any() or gold.all():
        return []
    reading = ways.read(way, (record["question"], passages_of(record), units), fold_of(record))
    return [label_reading(way, way, record, units, reading, gold)]


def way_figures(
    ways: WayReader,
    weights: Mapping[str, WayWeights],
    records: Sequence[Record],
    budgets: Sequence[float],
    counter: TextTokenizer,
    report: RecordProgress = lambda done: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of every way over one set, with the gain over the reference way."""
    sources = {way: WaySource(ways, way, of) for way, of in weights.items()}
    counts = tally_evidence(records, Panel(list(sources), sources), budgets, counter, report=report)
    figures = evidence_figures(counts, seed)
    return {
        "questions": figures["records"],
        "gold_sentences": figures["gold_sentences"],
        "mean_tokens_in": figures["mean_tokens_in"],
        "ways": {
            way: {
                "median_ms": of["median_ms"],
                "mean_tokens_read": sum(sources[way].tokens_read) / len(records),
                "budgets": {
                    budget: _gain_over_reference(cell) for budget, cell in of["budgets"].items()
                },
            }
            for way, of in figures["methods"].items()
        },
    }


def _gain_over_reference(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell with the lead of the reference turned into the way's gain over the reference."""
    gain = dict(cell)
    for ahead, over in (("reference_gold_ahead", "gold"), ("reference_all_ahead", "all_gold")):
        if (lead := gain.pop(ahead, None)) is not None:
            ends = {"low": 0 - lead["high"], "high": 0 - lead["low"]}  # 0 - 0.0 is 0.0, not -0.0
            gain[f"{over}_over_{REFERENCE_WAY}"] = {"difference": 0 - lead["difference"], **ends}
    return gain
