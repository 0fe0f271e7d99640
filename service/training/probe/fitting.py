"""Fits the default method's probe on labelled questions; its figures are of articles held out.

records ─ read (cached) ─► features ─ fit ─► first step ─ out of fold ─► second step ─► calibration
                              └ a fifth of the articles is held out for the figures on the card
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.words import hop_features
from tamis.compressors.methods.question_rows import QuestionRows, second_step_scores
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.fit import (
    Calibration,
    LabelledFeatures,
    check_l2,
    fit_calibration,
    fit_listwise,
    fit_logistic,
)
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.service.datasets.cached_reader import cached_reader
from tamis.service.datasets.record_files import (
    RecordFile,
    ReportProgress,
    describe_file,
    name_distinctly,
)
from tamis.service.training.probe.answerability import (
    AnswerabilityFits,
    CrossFitWeights,
    answerability_figures,
    fit_answerability,
)
from tamis.service.training.probe.coverage import coverage_figures, coverage_weights
from tamis.service.training.probe.figures import probe_figures
from tamis.service.training.probe.labelled_readings import (
    LabelledReading,
    read_answerable,
    read_unanswerable,
)

Fit = Callable[[Sequence[LabelledFeatures], float], tuple[Tensor, float]]
LOSSES: dict[str, Fit] = {"listwise": fit_listwise, "logistic": fit_logistic}
L2 = 0.01
"""Weight of the squared norm in the first step."""


def train_probe(
    proxy: Proxy,
    files: Sequence[RecordFile],
    cache: Path,
    layers: int,
    report: ReportProgress,
    loss: str = "listwise",
    l2: float = L2,
    read_layers: int | None = None,
) -> tuple[LinearProbe, list[LabelledReading]]:
    """Fits a probe on all folds but the first, which the figures on its card are measured on.

    Args:
        layers: that the probe uses. read_layers: that are read, if more, so that one reading serves
            probes of several depths.

    Raises:
        BadInput: an unknown loss, an l2 below 0, or files without enough to learn from.
    """
    if loss not in LOSSES:
        raise BadInput(f"there is no loss {loss!r}; there are {sorted(LOSSES)}")
    check_l2(l2)
    files = name_distinctly(files)
    method = QuestionRows(cached_reader(proxy), probe=None)
    method.layers = read_layers or layers
    if method.layers < layers:
        raise BadInput(f"layers is {layers} and only {read_layers} are read; read more")
    exit_layer = layers if method.layers > layers else None
    cases = list(read_answerable(method, files, cache, report, exit_layer))
    fitted, held_out = split_held_out(cases)
    absent, held_out_absent = _split_first_fold(
        list(read_unanswerable(method, files, cache, report, exit_layer))
    )
    weights = _fit_weights(fitted, absent, LOSSES[loss], l2)
    card = probe_card(proxy, layers, files, cases)
    probe = LinearProbe(weights | coverage_weights(LinearProbe(weights, card), held_out), card)
    figures = {
        "loss": loss,
        "l2": l2,
        "fitted": len(fitted),
        "held_out": probe_figures(probe, held_out),
    }
    figures["coverage"] = coverage_figures(probe, held_out)
    figures["answerability"] = answerability_figures(probe, held_out, held_out_absent)
    return LinearProbe(probe.weights, ProbeCard(**_card_fields(card) | {"figures": figures})), cases


def probe_card(
    proxy: Proxy, layers: int, files: Sequence[RecordFile], cases: Sequence[LabelledReading]
) -> ProbeCard:
    """The card of a probe fitted on these questions, without figures."""
    return ProbeCard(
        method="question_rows",
        model=proxy.card.name,
        revision=proxy.card.revision,
        template=proxy.layout.template.name,
        layers=layers,
        heads=proxy.card.heads,
        rows=("question_mean",),
        trained_on=tuple(describe_file(file, _count_readings(file, cases)) for file in files),
    )


def split_held_out(
    cases: Sequence[LabelledReading],
) -> tuple[list[LabelledReading], list[LabelledReading]]:
    """Questions to fit on, and the first fold's to measure on.

    Raises:
        BadInput: too few articles for two folds to fit on and one held out.
    """
    fitted, held_out = _split_first_fold(cases)
    if len({case.fold for case in fitted}) < 2 or not held_out:
        raise BadInput(
            f"{len(cases)} questions on too few articles: the fit needs articles to hold out; "
            "give more data"
        )
    return fitted, held_out


def _split_first_fold(
    cases: Sequence[LabelledReading],
) -> tuple[list[LabelledReading], list[LabelledReading]]:
    return [case for case in cases if case.fold], [case for case in cases if not case.fold]


def _fit_weights(
    cases: Sequence[LabelledReading], absent: Sequence[LabelledReading], fit: Fit, l2: float
) -> dict[str, Tensor]:
    """Weights of both steps and of answerability; each later fit is on scores out of fold."""
    gold = [case.gold for case in cases]
    weights, first, hop = fit_ordering(cases, fit, l2)
    isolated = [LabelledFeatures(c.isolated, c.gold) for c in cases]
    alone, z_alone = _fit_out_of_fold(cases, isolated, fit_logistic, 1e-3)
    fits = AnswerabilityFits(first, hop, alone)
    return weights | {
        "alone": alone.whole,
        "alone_calibration": _calibration_weights(fit_calibration(z_alone, gold, absolute=True)),
        "answerable": fit_answerability(fits, cases, absent),
    }


def fit_ordering(
    cases: Sequence[LabelledReading], fit: Fit = fit_listwise, l2: float = L2
) -> tuple[dict[str, Tensor], CrossFitWeights, CrossFitWeights]:
    """Fits the two steps that order units, and the calibration of their probabilities.

    Returns:
        the weights by name; `first` has one for each column of `LabelledReading.first`, `[F]`,
        whatever those are; then the fits of the first and of the second step.
    """
    first, z = _fit_out_of_fold(cases, [LabelledFeatures(c.first, c.gold) for c in cases], fit, l2)
    second = [_second_step_question(case, scores) for case, scores in zip(cases, z, strict=True)]
    hop, z = _fit_out_of_fold(cases, second, fit_listwise, 1e-3)
    calibration = _calibration_weights(fit_calibration(z, [case.gold for case in cases]))
    return {"first": first.whole, "hop": hop.whole, "calibration": calibration}, first, hop


def _second_step_question(case: LabelledReading, first: Tensor) -> LabelledFeatures:
    return LabelledFeatures(
        torch.from_numpy(hop_features(case.lexicon, first.double().numpy())), case.gold
    )


def _fit_out_of_fold(
    cases: Sequence[LabelledReading], questions: Sequence[LabelledFeatures], fit: Fit, l2: float
) -> tuple[CrossFitWeights, list[Tensor]]:
    """Weights fitted on all questions; each question's scores by a fit without its article."""
    pairs = list(zip(questions, cases, strict=True))
    folds = {
        fold: fit([q for q, case in pairs if case.fold != fold], l2)
        for fold in sorted({case.fold for case in cases})
    }
    found = CrossFitWeights(*fit(questions, l2), folds)
    return found, [found.scores(q.features, case.fold) for q, case in pairs]


def _calibration_weights(calibration: Calibration) -> Tensor:
    return torch.tensor([calibration.a, calibration.b, calibration.c, calibration.d])


def recalibrate(probe: LinearProbe, cases: Sequence[LabelledReading]) -> LinearProbe:
    """The same probe with probabilities and coverage fitted to these questions.

    Its order of sentences stays. Answerability is not calibrated anew: that takes questions without
    an answer.
    """
    z = [second_step_scores(probe, case.first, case.lexicon) for case in cases]
    gold = [case.gold for case in cases]
    alone = [case.isolated @ probe.weight("alone", (case.isolated.shape[1],)) for case in cases]
    weights = dict(probe.weights) | {
        "calibration": _calibration_weights(fit_calibration(z, gold)),
        "alone_calibration": _calibration_weights(fit_calibration(alone, gold, absolute=True)),
    }
    weights |= coverage_weights(LinearProbe(weights, probe.card), cases)
    figures = dict(probe.card.figures) | {"recalibrated_on": len(cases)}
    figures["coverage"] = coverage_figures(LinearProbe(weights, probe.card), cases)
    return LinearProbe(weights, ProbeCard(**_card_fields(probe.card) | {"figures": figures}))


def _count_readings(file: RecordFile, cases: Sequence[LabelledReading]) -> int:
    return sum(case.source == file.name for case in cases)


def _card_fields(card: ProbeCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}
