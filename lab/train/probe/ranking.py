"""Fits the probe that ranks documents, on queries with candidate lists and labelled records.

lists, records ─ read (cached) ─► features a document ─ listwise fit, out of fold ─► calibration
                                  └ a fifth of the queries is held out for the figures on the card
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.rank_probe import (
    document_scores,
    first_word_column,
    rank_features,
    unit_evidence,
)
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import Calibration, LinearProbe, ProbeCard
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tamis_lab.datasets.qrels import JudgedQuery
from tamis_lab.datasets.ranking_metrics import ndcg
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    question_fold,
)
from tamis_lab.datasets.records import annotated_units, gold_spans, passages_of
from tamis_lab.train.fit import LabelledFeatures, fit_calibration, fit_listwise

UNIT_WEIGHTS = (0.25, 0.1)
"""Of evidence and best unit, beside the fitted weights. Fitted ones would trust units too much:
their own probe has seen the same questions. Units find second hops and mislead on claims (nDCG@10
out of fold, without, with these, with .5 and .1: HotpotQA .902 .918 .920, SciFact's training claims
fused with BM25 .831 .828 .825)."""


@dataclass(frozen=True, slots=True)
class QueryLists:
    """A file of queries with the first `depth` candidates of each, and their texts."""

    name: str
    queries: Sequence[JudgedQuery]
    corpus: Mapping[str, Passage]
    depth: int


@dataclass(frozen=True, slots=True)
class RankCase:
    """One query, read.

    Attributes:
        features: of its documents, `[P, F]`.
        evidence: of their units, `[P, 2]`: all taken together, and the best one.
        gold: which documents are relevant, `[P]`.
    """

    source: str
    fold: int
    features: Tensor
    evidence: Tensor
    gold: Tensor

    def score(self, probe: LinearProbe) -> Tensor:
        """The scores of its documents by a probe, `[P]`."""
        return document_scores(probe, self.features, self.evidence)


class RankCaseReader:
    """Reads queries by one method; readings are kept on disk."""

    def __init__(self, method: QuestionRows, cache: Path, report: ReportProgress) -> None:
        self.method, self.report = method, report
        self.readings = CaseReadings(cache, store_key(method))

    def read_lists(self, lists: QueryLists) -> Iterator[RankCase]:
        """Reads queries with at least one relevant and one irrelevant candidate."""
        for done, query in enumerate(lists.queries, 1):
            ids = [docid for docid, _ in query.candidates[: lists.depth]]
            passages = [lists.corpus[docid] for docid in ids]
            gold = [docid in query.qrels for docid in ids]
            yield from self._read_case(lists.name, query.text, passages, units_of(passages), gold)
            self.report(lists.name, done, len(lists.queries))

    def read_records(self, file: RecordFile) -> Iterator[RankCase]:
        """The records of a file: documents with gold sentences are relevant."""
        records, name = answerable_records(file), file.name
        for done, record in enumerate(records, 1):
            answering = {d for d, _, _ in gold_spans(record)}
            passages = passages_of(record)
            gold = [d in answering for d in range(len(passages))]
            units = annotated_units(record)
            yield from self._read_case(name, record["question"], passages, units, gold)
            self.report(name, done, len(records))

    def _read_case(
        self,
        source: str,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        gold: Sequence[bool],
    ) -> Iterator[RankCase]:
        if not any(gold) or all(gold):
            return
        reading = self.readings.get_or_read(question, passages, units, self.method.read)
        scores = self.method.score_reading(reading, question, passages, units)
        first = self.method.first_step(reading, question, passages, units)
        yield RankCase(
            source,
            question_fold(question),
            rank_features(question, reading, passages, units),
            unit_evidence(first, scores.passages, units),
            torch.tensor(gold),
        )


def fit_rank_probe(
    cases: Sequence[RankCase],
    method: QuestionRows,
    weights: Mapping[str, int],
    trained_on: Sequence[Mapping[str, Any]],
    l2: float = 0.01,
) -> LinearProbe:
    """Fits a probe on all folds but the first, which the figures on its card are measured on.

    Args:
        weights: how often each query of a file counts, by its name; 1 unless it is here.

    Raises:
        BadInput: too few queries to hold some out.
    """
    fitted = [case for case in cases if case.fold]
    held_out = [case for case in cases if not case.fold]
    if len({case.fold for case in fitted}) < 2 or not held_out:
        raise BadInput(f"{len(cases)} queries are too few to hold some out; give more data")
    card = ProbeCard(
        method="rank",
        model=method.reader.card.name,
        revision=method.reader.card.revision,
        template=method.reader.layout.template.name,
        layers=method.layers,
        heads=method.reader.card.heads,
        rows=("sentence_means",),
        trained_on=tuple(trained_on),
    )
    found = _uncalibrated_probe(_fit_document_weights(fitted, weights, l2), card)
    slopes = _fit_calibration(fitted, card, weights, l2)
    found = replace(found, weights={**found.weights, "calibration": slopes})
    figures = {"l2": l2, "fitted": len(fitted), "weights": dict(weights)}
    figures |= {"held_out": rank_figures(found, held_out)}
    return replace(found, card=replace(card, figures=figures))


def _fit_document_weights(
    cases: Sequence[RankCase], weights: Mapping[str, int], l2: float
) -> Tensor:
    repeated = [case for case in cases for _ in range(weights.get(case.source, 1))]
    return fit_listwise([LabelledFeatures(case.features, case.gold) for case in repeated], l2)[0]


def _uncalibrated_probe(document: Tensor, card: ProbeCard) -> LinearProbe:
    """A probe that ranks documents, not calibrated yet."""
    return LinearProbe({"document": document, "units": torch.tensor(UNIT_WEIGHTS)}, card)


def _fit_calibration(
    cases: Sequence[RankCase], card: ProbeCard, weights: Mapping[str, int], l2: float
) -> Tensor:
    """The calibration of scores, each by a fit without the query's fold: `[4]`."""
    scores, golds = [], []
    for fold in sorted({case.fold for case in cases}):
        others = _fit_document_weights([case for case in cases if case.fold != fold], weights, l2)
        probe = _uncalibrated_probe(others, card)
        own = [case for case in cases if case.fold == fold]
        scores += [case.score(probe) for case in own]
        golds += [case.gold for case in own]
    found: Calibration = fit_calibration(scores, golds)
    return torch.tensor([found.a, found.b, found.c, found.d])


def rank_figures(probe: LinearProbe, cases: Sequence[RankCase]) -> dict[str, Any]:
    """nDCG@10 within the lists of each file, by the probe, by words, by the best unit alone."""
    bm25 = first_word_column(probe.card.layers, probe.card.heads)
    scorers: dict[str, Callable[[RankCase], Tensor]] = {
        "probe": lambda case: case.score(probe),
        "bm25": lambda case: case.features[:, bm25],
        "best_unit": lambda case: case.evidence[:, 1],
    }
    found: dict[str, Any] = {}
    for name in sorted({case.source for case in cases}):
        own = [case for case in cases if case.source == name]
        found[name] = {"queries": len(own)} | {
            scorer: round(math.fsum(_ndcg_of_scores(score(c), c.gold) for c in own) / len(own), 4)
            for scorer, score in scorers.items()
        }
    return found


def _ndcg_of_scores(scores: Tensor, gold: Tensor) -> float:
    order = scores.argsort(descending=True, stable=True).tolist()
    relevant = {str(i): 1.0 for i in range(len(gold)) if gold[i]}
    return ndcg([str(i) for i in order], relevant)
