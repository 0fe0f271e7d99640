"""Questions whose facts have to be chained: what does another way of reading buy?

    training ─ read in each way ─► features ─ fit, out of fold ─► weights ─┐
    judged ─── read in each way ─► features ───────────────────────────────┴► scores ─► gold kept

Every way, see `hops_ways`, has words and second step as the default has them, and weights that were
fitted to it on the same questions. What is asked again after a first reading is asked of what
survived it; in training that is said by weights that never saw the question's article, so that
survivors are as good as those of a question that is judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from tamis.compressors.method import best_unit_scores
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.datasets.records import Record, annotated_units, labels, passages_of
from tamis.service.datasets.score_sources import Seen
from tamis.service.evaluation.attention.hops_ways import REFERENCE, Ways, Weights
from tamis.service.evaluation.evidence.evidence import (
    counted,
    figures,
    records_of,
    sha256_of,
    tally,
)
from tamis.service.evaluation.evidence.methods import Panel
from tamis.service.training.probe import Case, Source, described, fold_of, ordering
from tamis.service.training.probe import records_of as training_records
from tamis.service.training.probe.labelled_readings import case_of

Report = Callable[[str, int, int], None]


class Judge:
    """A source of scores: one way with its weights; `tokens_read` grows by a number a question."""

    def __init__(self, ways: Ways, way: str, weights: Weights) -> None:
        self.ways, self.way, self.weights = ways, way, weights
        self.tokens_read: list[int] = []

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """Scores of every unit, and the ms that reading and scoring took."""
        asked = question, passages, units
        look = self.ways.read(self.way, asked)
        self.tokens_read.append(look.tokens_read)
        clock = time.perf_counter()
        values = tuple(self.weights.scores(look, asked).tolist())
        scored_ms = (time.perf_counter() - clock) * 1e3
        ranks = best_unit_scores(values, units, len(passages))
        return Seen(Scores(values, ranks), sum(look.timings_ms.values()) + scored_ms)


def compare(
    ways: Ways,
    names: Sequence[str],
    train: Sequence[Source],
    judge: Sequence[Source],
    budgets: Sequence[float],
    counter: Tokens,
    report: Report,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits every way on the training files and judges it by the others.

    Contexts that do not fit into one prompt are left out for all ways, where `whole` is one.

    Args:
        names: of ways, as `chosen` gives them. budgets: up to 1 a share, above whole tokens.
        report: called with what is going on, how much of it is done, and of how much.

    Raises:
        BadInput: nothing can be fitted or judged.
    """
    given = {source: training_records(source) for source in train}
    asked = {source: records_of(source.path, source.limit, seed)[0] for source in judge}
    fit_on, due = (readable(ways, files, "whole" in names) for files in (given, asked))
    weights = fitted(ways, names, [row for rows in fit_on.values() for row in rows], report)
    sets = {}
    for source, rows in due.items():
        bar = counted(report, f"judge, {source.name}", len(rows))
        of = judged(ways, weights, rows, budgets, counter, bar, seed)
        sets[source.name] = {**of, **_left_out(asked, due, source)}
        sets[source.name]["sha256"] = sha256_of(source.path)
    fitted_on = [described(s, len(of)) | _left_out(given, fit_on, s) for s, of in fit_on.items()]
    return {"train": fitted_on, "sets": sets}


def _left_out(
    given: Mapping[Source, Sequence[Record]], kept: Mapping[Source, Sequence[Record]], of: Source
) -> dict[str, int]:
    return {"too_long": len(given[of]) - len(kept[of])}


def readable(
    ways: Ways, files: Mapping[Source, list[Record]], at_once: bool
) -> dict[Source, list[Record]]:
    """The records all ways can read; `at_once` says whether one is `whole`.

    Raises:
        BadInput: no record of a file is left.
    """
    if not at_once:
        return dict(files)
    found = {source: list(filter(ways.holds, rows)) for source, rows in files.items()}
    for source, rows in found.items():
        if not rows:
            raise BadInput(
                f"none of the {len(files[source])} contexts of {source.path} fits into one prompt "
                f"of {ways.whole.window_tokens} tokens; leave out the way 'whole'"
            )
    return found


def fitted(
    ways: Ways, names: Sequence[str], train: Sequence[Record], report: Report
) -> dict[str, Weights]:
    """Weights of every way, from the same questions.

    Raises:
        BadInput: the questions are on one article, or no unit of any is gold.
    """
    found: dict[str, Weights] = {}
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
        _, *steps = ordering(cases)
        found[way] = Weights(*steps)
        if way == REFERENCE:
            ways.first_pass = found[way]
    return found


def training_case(ways: Ways, way: str, record: Record) -> list[Case]:
    """A training question as one way sees it; none if all its units are gold, or none is."""
    units = annotated_units(record)
    gold = torch.tensor(labels(record, units))
    if not gold.any() or gold.all():
        return []
    look = ways.read(way, (record["question"], passages_of(record), units), fold_of(record))
    return [case_of(way, record, look, gold)]


def judged(
    ways: Ways,
    weights: Mapping[str, Weights],
    records: Sequence[Record],
    budgets: Sequence[float],
    counter: Tokens,
    report: Callable[[int], None] = lambda done: None,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of every way over one set, as `evidence.figures` gives them, less the reference's."""
    sources = {way: Judge(ways, way, of) for way, of in weights.items()}
    counts = tally(records, Panel(list(sources), sources), budgets, counter, report=report)
    found = figures(counts, seed)
    return {
        "questions": found["records"],
        "gold_sentences": found["gold_sentences"],
        "mean_tokens_in": found["mean_tokens_in"],
        "ways": {
            way: {
                "median_ms": of["median_ms"],
                "mean_tokens_read": sum(sources[way].tokens_read) / len(records),
                "budgets": {budget: _over(cell) for budget, cell in of["budgets"].items()},
            }
            for way, of in found["methods"].items()
        },
    }


def _over(cell: Mapping[str, Any]) -> dict[str, Any]:
    """A cell with what a way keeps more than the reference, not the other way round."""
    turned = dict(cell)
    for ahead, over in (("reference_gold_ahead", "gold"), ("reference_all_ahead", "all_gold")):
        if (by := turned.pop(ahead, None)) is not None:
            ends = {"low": 0 - by["high"], "high": 0 - by["low"]}  # 0 - 0.0 is no -0.0
            turned[f"{over}_over_{REFERENCE}"] = {"difference": 0 - by["difference"], **ends}
    return turned
