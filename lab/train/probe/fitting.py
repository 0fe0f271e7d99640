"""Fits the default method's probe on labelled questions; its figures are of articles held out.

records ─ read (cached) ─► features ─► first step ─ out of domain ─► second step ─► calibration
                              └ a fifth of the articles is held out for the figures on the card
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.second_step import ENCODER, add_cosines, second_step_features
from tamis.compressors.features.words import WORD_FEATURES, hop_features
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.gated import GatedFeatures, gated_scores
from tamis.probes.probing.linear import Calibration, LinearProbe, ProbeCard
from tamis_lab.datasets.reading_store import cached_reader
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    describe_file,
    name_distinctly,
)
from tamis_lab.datasets.score_sources import ScoreSource
from tamis_lab.train.fit import (
    LabelledFeatures,
    check_l2,
    fit_calibration,
    fit_listwise,
    fit_logistic,
)
from tamis_lab.train.gated_fit import GatedQuestion, fit_gated
from tamis_lab.train.probe.answerability import (
    UNFINISHED_CARD,
    CrossFitWeights,
    FittedSteps,
    answerability_figures,
    fit_answerability,
    split_by_answer,
)
from tamis_lab.train.probe.coverage import coverage_figures, coverage_weights
from tamis_lab.train.probe.figures import probe_figures, scores_of
from tamis_lab.train.probe.labelled_readings import LabelledReading, RecordReader, hard_units

Fit = Callable[[Sequence[LabelledFeatures], float], tuple[Tensor, float]]
LOSSES: dict[str, Fit] = {"listwise": fit_listwise, "logistic": fit_logistic}
L2 = 0.01
"""Weight of the squared norm in the first step."""
SINGLE_L2 = 1e-3
"""Likewise in the fits to single units: of heads and words, and of attention alone."""
BLEND_SHARE = 0.3
"""Of the new scores in a first step that is blended with another probe's. Half of them keep more of
real documents and less of meetings. Figures:
lab/log/evidence.md#2026-12-03-a-first-step-blended-with-the-one-that-shipped."""
MIN_DOMAINS = 4
"""With so many domains, the second step is fitted on scores of fits without the question's domain,
so that it learns how far a first step can be trusted that never saw the like; with fewer, without
its article."""


def train_probe(
    proxy: Proxy,
    files: Sequence[RecordFile],
    cache: Path,
    layers: int,
    report: ReportProgress,
    loss: str = "listwise",
    l2: float = L2,
    read_layers: int | None = None,
    cosines: ScoreSource | None = None,
    blend: LinearProbe | None = None,
) -> tuple[LinearProbe, list[LabelledReading]]:
    """Fits a probe on all folds but the first, which the figures on its card are measured on.

    Args:
        layers: that the probe uses. read_layers: that are read, if more, so that one reading serves
            probes of several depths.
        cosines: an encoder's; the probe then also has weights to be used with one.
        blend: a probe whose first step is kept, but for a share of the new one's; that of units by
            themselves is kept as it is.

    Raises:
        BadInput: an unknown loss, an l2 below 0, or files without enough to learn from.
    """
    if loss not in LOSSES:
        raise BadInput(f"there is no loss {loss!r}; there are {sorted(LOSSES)}")
    check_l2(l2)
    files = name_distinctly(files)
    if read_layers is not None and read_layers < layers:
        raise BadInput(f"layers is {layers} and only {read_layers} are read; read more")
    method = QuestionRows.for_fit(cached_reader(proxy), read_layers or layers)
    exit_layer = layers if method.layers > layers else None
    reader = RecordReader(method, cache, exit_layer, cosines)
    cases = list(reader.read_answerable(files, report))
    fitted, held_out = split_held_out(cases)
    absent, held_out_absent = _split_first_fold(list(reader.read_unanswerable(files, report)))
    excerpts, held_out_excerpts = _split_first_fold(list(reader.read_excerpts(files, report)))
    weights = fit_weights(fitted, absent, LOSSES[loss], l2, excerpts, blend)
    card = probe_card(proxy, layers, files, cases)
    probe = LinearProbe(weights | coverage_weights(LinearProbe(weights, card), held_out), card)
    figures = {
        "loss": loss,
        "l2": l2,
        "fitted": len(fitted),
        "held_out": probe_figures(probe, held_out),
    }
    if blend is not None:
        figures["blended"] = {"share": BLEND_SHARE, "with": list(blend.card.trained_on)}
    figures["coverage"] = coverage_figures(probe, held_out)
    figures["answerability"] = answerability_figures(probe, held_out, held_out_absent)
    figures["answerability_of_excerpts"] = answerability_figures(
        probe, *split_by_answer(held_out_excerpts)
    )
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
        rows=("sentence_means",),
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


def fit_weights(
    cases: Sequence[LabelledReading],
    absent: Sequence[LabelledReading],
    fit: Fit = fit_listwise,
    l2: float = L2,
    excerpts: Sequence[LabelledReading] = (),
    blend: LinearProbe | None = None,
) -> dict[str, Tensor]:
    """Weights of both steps and of answerability; each later fit is on scores out of fold.

    Args:
        absent: questions without an answer, of the same folds. excerpts: of a few sentences, with
            an answer or without; answerability alone is fitted on them. blend: as in `train_probe`.
    """
    steps = fit_steps(cases, fit, l2, blend)
    with_answer, without = split_by_answer(excerpts)
    return dict(steps.weights) | {
        "answerable": fit_answerability(steps.features, [*cases, *with_answer], [*absent, *without])
    }


def fit_steps(
    cases: Sequence[LabelledReading],
    fit: Fit = fit_listwise,
    l2: float = L2,
    blend: LinearProbe | None = None,
) -> FittedSteps:
    """The fits of both steps, with and without an encoder where the cases have cosines."""
    questions = first_questions(cases)
    first, z_first = _fit_out_of_fold(cases, questions, fit, l2)
    single, z_single = _fit_out_of_fold(cases, questions, fit_logistic, SINGLE_L2)
    if blend is not None:
        first, z_first = _blend(first, cases, questions, blend.weights["first"])
        single, z_single = _blend(single, cases, questions, blend.weights["single"])
        alone = CrossFitWeights(blend.weights["alone"], 0.0, {})
        alone_calibration = blend.weights["alone_calibration"]
    else:
        alone, z_alone = _fit_out_of_fold(cases, isolated_questions(cases), fit_logistic, SINGLE_L2)
        alone_calibration = _calibration_weights(
            fit_calibration(z_alone, [case.gold for case in cases], absolute=True)
        )
    weights = {
        "first": first.whole,
        "single": single.whole,
        "alone": alone.whole,
        "alone_calibration": alone_calibration,
    }
    weights |= fit_second_step(cases, z_first, z_single)
    return FittedSteps(first, single, alone, weights)


def _blend(
    found: CrossFitWeights,
    cases: Sequence[LabelledReading],
    questions: Sequence[LabelledFeatures],
    weights: Tensor,
) -> tuple[CrossFitWeights, list[Tensor]]:
    """The first step's weights, a share of them new, and the scores that they give to each case."""
    spread, others = (
        torch.stack([(q.features @ w).std() for q in questions]).mean()
        for w in (found.whole, weights)
    )
    mixed = found.mixed_with(weights, BLEND_SHARE, float(others / spread))
    scored = zip(questions, cases, strict=True)
    return mixed, [mixed.scores(q.features, mixed.fold_of(case)) for q, case in scored]


def first_questions(cases: Sequence[LabelledReading]) -> list[LabelledFeatures]:
    """The features of the first step, heads and words.

    How long a unit is has no weight: a step of a procedure must not fall because it is short.
    """
    length = WORD_FEATURES.index("log_tokens") - len(WORD_FEATURES)
    return [LabelledFeatures(_without_length(case.first, length), case.gold) for case in cases]


def isolated_questions(cases: Sequence[LabelledReading]) -> list[LabelledFeatures]:
    """The features of each unit's own window; its length has no weight here either."""
    return [LabelledFeatures(_without_length(case.isolated, -1), case.gold) for case in cases]


def _without_length(features: Tensor, column: int) -> Tensor:
    """The features with one column set to 0, whose weight is then 0."""
    bare = features.clone()
    bare[:, column] = 0
    return bare


def fit_second_step(
    cases: Sequence[LabelledReading], first: Sequence[Tensor], single: Sequence[Tensor]
) -> dict[str, Tensor]:
    """The weights of the second step and the calibration of its scores, out of fold.

    Where all cases have cosines, also those with an encoder, which reads the best units by the
    second step without it.

    Args:
        first, single: the first step's two scores of each case's units, out of fold.
    """
    features = [
        second_step_features(case.texts, z, z_single, case.first[:, -len(WORD_FEATURES) :])
        for case, z, z_single in zip(cases, first, single, strict=True)
    ]
    weights, scores = _fit_gated_step(cases, features, "")
    cosines = [case.cosines for case in cases if case.cosines is not None]
    if len(cosines) < len(cases):
        return weights
    features = [
        add_cosines(each, case.texts, z, cosine)
        for each, case, cosine, z in zip(features, cases, cosines, scores, strict=True)
    ]
    return weights | _fit_gated_step(cases, features, ENCODER)[0]


def _fit_gated_step(
    cases: Sequence[LabelledReading], features: Sequence[GatedFeatures], prefix: str
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """The weights of a second step, calibrated, and the scores that they give to each case."""
    questions = [
        GatedQuestion(each.of_units(units := hard_units(case)), case.gold[units], case.domain)
        for each, case in zip(features, cases, strict=True)
    ]
    weights = fit_gated(questions, prefix)
    probe = LinearProbe(weights, UNFINISHED_CARD)
    z = [gated_scores(probe, each, prefix) for each in features]
    calibration = fit_calibration(z, [case.gold for case in cases], with_share=True)
    return weights | {f"{prefix}calibration": _calibration_weights(calibration)}, z


def fit_ordering(
    cases: Sequence[LabelledReading],
) -> tuple[dict[str, Tensor], CrossFitWeights, CrossFitWeights]:
    """Fits a first step and a second step of links alone, for studies that compare readings.

    Returns:
        the weights by name; `first` has one for each column of `LabelledReading.first`, `[F]`,
        whatever those are; then the fits of the first and of the second step.
    """
    questions = [LabelledFeatures(c.first, c.gold) for c in cases]
    first, z = _fit_out_of_fold(cases, questions, fit_listwise, L2)
    second = [
        LabelledFeatures(
            torch.from_numpy(hop_features(case.texts.lexicon, scores.double().numpy())), case.gold
        )
        for case, scores in zip(cases, z, strict=True)
    ]
    hop, z = _fit_out_of_fold(cases, second, fit_listwise, 1e-3)
    calibration = _calibration_weights(fit_calibration(z, [case.gold for case in cases]))
    return {"first": first.whole, "hop": hop.whole, "calibration": calibration}, first, hop


def _fit_out_of_fold(
    cases: Sequence[LabelledReading], questions: Sequence[LabelledFeatures], fit: Fit, l2: float
) -> tuple[CrossFitWeights, list[Tensor]]:
    """Weights fitted on all questions; each question's scores by a fit without its fold."""
    by_domain = len({case.domain for case in cases}) >= MIN_DOMAINS
    folds: dict[str | int, tuple[Tensor, float]] = {}
    whole = fit_on_hard_units(cases, questions, fit, l2, by_domain)
    found = CrossFitWeights(*whole, folds, by_domain)
    for fold in sorted({found.fold_of(case) for case in cases}, key=str):
        kept = [i for i, case in enumerate(cases) if found.fold_of(case) != fold]
        some = [cases[i] for i in kept], [questions[i] for i in kept]
        folds[fold] = fit_on_hard_units(*some, fit, l2, by_domain)
    scored = zip(questions, cases, strict=True)
    return found, [found.scores(q.features, found.fold_of(case)) for q, case in scored]


def fit_on_hard_units(
    cases: Sequence[LabelledReading],
    questions: Sequence[LabelledFeatures],
    fit: Fit,
    l2: float,
    by_domain: bool,
) -> tuple[Tensor, float]:
    """Weights and bias, fitted on the hard units of each case.

    Args:
        questions: the features of each case. by_domain: a listwise fit has a temperature a domain.
    """
    features = [q.of_units(hard_units(case)) for q, case in zip(questions, cases, strict=True)]
    if by_domain and fit is fit_listwise:
        return fit_listwise(features, l2, domains=[case.domain for case in cases])
    return fit(features, l2)


def _calibration_weights(calibration: Calibration) -> Tensor:
    slopes = [calibration.a, calibration.b, calibration.c, calibration.d]
    return torch.tensor([*slopes, calibration.e] if calibration.e else slopes)


def recalibrate(probe: LinearProbe, cases: Sequence[LabelledReading]) -> LinearProbe:
    """The same probe with probabilities and coverage fitted to these questions.

    Its order of sentences stays. Answerability is not calibrated anew: that takes questions without
    an answer.
    """
    gold = [case.gold for case in cases]
    z = [scores_of(probe, case) for case in cases]
    alone = [case.isolated @ probe.weight("alone", (case.isolated.shape[1],)) for case in cases]
    weights = dict(probe.weights) | {
        "calibration": _calibration_weights(fit_calibration(z, gold, with_share=True)),
        "alone_calibration": _calibration_weights(fit_calibration(alone, gold, absolute=True)),
    }
    if f"{ENCODER}levels" in probe.weights and all(case.cosines is not None for case in cases):
        z = [scores_of(probe, case, with_cosines=True) for case in cases]
        with_encoder = fit_calibration(z, gold, with_share=True)
        weights[f"{ENCODER}calibration"] = _calibration_weights(with_encoder)
    weights |= coverage_weights(LinearProbe(weights, probe.card), cases)
    figures = dict(probe.card.figures) | {"recalibrated_on": len(cases)}
    figures["coverage"] = coverage_figures(LinearProbe(weights, probe.card), cases)
    return LinearProbe(weights, ProbeCard(**_card_fields(probe.card) | {"figures": figures}))


def _count_readings(file: RecordFile, cases: Sequence[LabelledReading]) -> int:
    return sum(case.source == file.name for case in cases)


def _card_fields(card: ProbeCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}
