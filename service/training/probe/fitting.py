"""Labelled questions to the default method's probe, judged on articles it never saw.

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
from tamis.probes.probing.fit import Calibration, Question, calibrated, check_l2, listwise, logistic
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.service.datasets.case_readings import keeping
from tamis.service.training.probe.absence import Folded, Steps, answer_figures, answer_weights
from tamis.service.training.probe.labelled_readings import Case, Report, Source, described, distinct, read_absent, read_cases
from tamis.service.training.probe.coverage import coverage_figures, promised
from tamis.service.training.probe.figures import figures_of

Fit = Callable[[Sequence[Question], float], tuple[Tensor, float]]
LOSSES: dict[str, Fit] = {"listwise": listwise, "logistic": logistic}
L2 = 0.01
"""Weight of the squared norm in the first step."""


def train(
    proxy: Proxy,
    sources: Sequence[Source],
    cache: Path,
    layers: int,
    report: Report,
    loss: str = "listwise",
    l2: float = L2,
    read_layers: int | None = None,
) -> tuple[LinearProbe, list[Case]]:
    """Fits a probe for a proxy on all folds but the first, which the figures on its card come from.

    Args:
        layers: that the probe uses. read_layers: that are read, if more: one reading then serves
            probes of several depths.

    Raises:
        BadInput: an unknown loss, an l2 below 0, or files without enough to learn from.
    """
    if loss not in LOSSES:
        raise BadInput(f"there is no loss {loss!r}; there are {sorted(LOSSES)}")
    check_l2(l2)
    sources = distinct(sources)
    method = QuestionRows(keeping(proxy), probe=None)
    method.layers = read_layers or layers
    if method.layers < layers:
        raise BadInput(f"layers is {layers} and only {read_layers} are read; read more")
    early = layers if method.layers > layers else None
    cases = list(read_cases(method, sources, cache, report, early))
    fitted, held = parted(cases)
    absent, held_absent = _split(list(read_absent(method, sources, cache, report, early)))
    weights = _weights(fitted, absent, LOSSES[loss], l2)
    card = card_of(proxy, layers, sources, cases)
    probe = LinearProbe(weights | promised(LinearProbe(weights, card), held), card)
    figures = {"loss": loss, "l2": l2, "fitted": len(fitted), "held_out": figures_of(probe, held)}
    figures["coverage"] = coverage_figures(probe, held)
    figures["answerability"] = answer_figures(probe, held, held_absent)
    return LinearProbe(probe.weights, ProbeCard(**_fields(card) | {"figures": figures})), cases


def card_of(
    proxy: Proxy, layers: int, sources: Sequence[Source], cases: Sequence[Case]
) -> ProbeCard:
    """The card of a probe fitted on these cases, without figures."""
    return ProbeCard(
        method="question_rows",
        model=proxy.card.name,
        revision=proxy.card.revision,
        template=proxy.layout.template.name,
        layers=layers,
        heads=proxy.card.heads,
        rows=("question_mean",),
        trained_on=tuple(described(source, _used(source, cases)) for source in sources),
    )


def parted(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """To fit on, and to judge by. BadInput: too few articles for two folds and one held out."""
    fitted, held = _split(cases)
    if len({case.fold for case in fitted}) < 2 or not held:
        raise BadInput(
            f"{len(cases)} questions on too few articles: the fit needs articles to hold out; "
            "give more data"
        )
    return fitted, held


def _split(cases: Sequence[Case]) -> tuple[list[Case], list[Case]]:
    """To fit on, and to judge by."""
    return [case for case in cases if case.fold], [case for case in cases if not case.fold]


def _weights(
    cases: Sequence[Case], absent: Sequence[Case], fit: Fit, l2: float
) -> dict[str, Tensor]:
    """Both steps and their calibrations, each later one fitted on scores out of fold."""
    gold = [case.gold for case in cases]
    weights, first, hop = ordering(cases, fit, l2)
    lone = [Question(c.lone, c.gold) for c in cases]
    alone, z_alone = _out_of_fold(cases, lone, logistic, 1e-3)
    steps = Steps(first, hop, alone)
    return weights | {
        "alone": alone.whole,
        "alone_calibration": _vector(calibrated(z_alone, gold, absolute=True)),
        "answerable": answer_weights(steps, cases, absent),
    }


def ordering(
    cases: Sequence[Case], fit: Fit = listwise, l2: float = L2
) -> tuple[dict[str, Tensor], Folded, Folded]:
    """The weights that put units in order and say how probable each is, and both steps' fits.

    `first` has a weight for each column of `Case.first`, whatever those are: `[F]`.
    """
    first, z = _out_of_fold(cases, [Question(c.first, c.gold) for c in cases], fit, l2)
    second = [_second(case, scores) for case, scores in zip(cases, z, strict=True)]
    hop, z = _out_of_fold(cases, second, listwise, 1e-3)
    calibration = _vector(calibrated(z, [case.gold for case in cases]))
    return {"first": first.whole, "hop": hop.whole, "calibration": calibration}, first, hop


def _second(case: Case, first: Tensor) -> Question:
    return Question(torch.from_numpy(hop_features(case.lexicon, first.double().numpy())), case.gold)


def _out_of_fold(
    cases: Sequence[Case], questions: Sequence[Question], fit: Fit, l2: float
) -> tuple[Folded, list[Tensor]]:
    """Weights from all questions; each question's scores by weights that never saw its article."""
    pairs = list(zip(questions, cases, strict=True))
    folds = {
        fold: fit([q for q, case in pairs if case.fold != fold], l2)
        for fold in sorted({case.fold for case in cases})
    }
    found = Folded(*fit(questions, l2), folds)
    return found, [found.scores(q.features, case.fold) for q, case in pairs]


def _vector(calibration: Calibration) -> Tensor:
    return torch.tensor([calibration.a, calibration.b, calibration.c, calibration.d])


def recalibrated(probe: LinearProbe, cases: Sequence[Case]) -> LinearProbe:
    """The same weights with probabilities and coverage fitted to these cases.

    Its order of sentences stays. Whether a context holds an answer is not judged anew: that takes
    questions without one.
    """
    z = [second_step_scores(probe, case.first, case.lexicon) for case in cases]
    gold = [case.gold for case in cases]
    alone = [case.lone @ probe.get("alone", (case.lone.shape[1],)) for case in cases]
    weights = dict(probe.weights) | {
        "calibration": _vector(calibrated(z, gold)),
        "alone_calibration": _vector(calibrated(alone, gold, absolute=True)),
    }
    weights |= promised(LinearProbe(weights, probe.card), cases)
    figures = dict(probe.card.figures) | {"recalibrated_on": len(cases)}
    figures["coverage"] = coverage_figures(LinearProbe(weights, probe.card), cases)
    return LinearProbe(weights, ProbeCard(**_fields(probe.card) | {"figures": figures}))


def _used(source: Source, cases: Sequence[Case]) -> int:
    return sum(case.source == source.name for case in cases)


def _fields(card: ProbeCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}
