"""Answerability: how to tell questions whose context holds no answer from the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from tamis.compressors.features.second_step import (
    FLOORS,
    answer_features,
    answerability,
    second_step_features,
    unit_scores,
)
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.probes.probing.gated import gated_scores
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis_lab.datasets.records import request_units
from tamis_lab.datasets.taken_out import Context
from tamis_lab.train.fit import auc
from tamis_lab.train.probe.labelled_readings import LabelledReading, label_reading

_C = 0.03
"""Inverse weight of the squared norm in the logistic regression. Held so short, no domain's hardest
answers lie far below those of others, and one floor serves all. Figures:
lab/log/coverage.md#2026-12-03-answerability-fitted-with-real-documents."""
UNFINISHED_CARD = ProbeCard("", "", "", "", 0, 0, ())
"""Of weights that are still being fitted."""


@dataclass(frozen=True, slots=True)
class CrossFitWeights:
    """Weights fitted on all questions, and for each fold those fitted without its articles.

    Attributes:
        whole: fitted on all questions, `[F]`. bias: that of `whole`.
        folds: weights and bias by fold. by_domain: whether a fold is a domain, or some articles.
    """

    whole: Tensor
    bias: float
    folds: Mapping[str | int, tuple[Tensor, float]]
    by_domain: bool = False

    def fold_of(self, case: LabelledReading) -> str | int:
        """The fold that a case is in."""
        return case.domain if self.by_domain else case.fold

    def scores(self, features: Tensor, fold: str | int) -> Tensor:
        """Scores `[U]` by weights that were fitted without the fold, centred as in that fit."""
        w, bias = self.folds.get(fold, (self.whole, self.bias))
        # less the bias of the whole, so that absolute scores mean the same in every fold
        return features @ w + bias - self.bias

    def mixed_with(self, weights: Tensor, share: float, ratio: float) -> CrossFitWeights:
        """The sum of these, times `share · ratio`, and of other weights, times `1 - share`.

        Args:
            weights: `[F]`, fitted on other questions, so the same in every fold.
            ratio: of the spread of the others' scores to that of these.
        """
        own = share * ratio
        folds = {
            fold: (own * w + (1 - share) * weights, own * bias)
            for fold, (w, bias) in self.folds.items()
        }
        whole = own * self.whole + (1 - share) * weights
        return CrossFitWeights(whole, own * self.bias, folds, self.by_domain)


@dataclass(frozen=True, slots=True)
class FittedSteps:
    """The fits that the features of answerability are computed with.

    Attributes:
        first, single, alone: out of fold. weights: of the second step, by name.
    """

    first: CrossFitWeights
    single: CrossFitWeights
    alone: CrossFitWeights
    weights: Mapping[str, Tensor]

    def features(self, case: LabelledReading) -> Tensor:
        """Features of one request; first step and attention by weights that never saw its fold."""
        first = self.first.scores(case.first, self.first.fold_of(case))
        single = self.single.scores(case.first, self.single.fold_of(case))
        alone = self.alone.scores(case.isolated, self.alone.fold_of(case))
        words = case.first[:, -len(WORD_FEATURES) :]
        features = second_step_features(case.texts, first, single, words)
        z = gated_scores(LinearProbe(self.weights, UNFINISHED_CARD), features)
        return answer_features(z, alone, case.first)


def remove_gold(case: LabelledReading) -> LabelledReading | None:
    """The same question with only those of its passages that hold no gold; None if all do."""
    bare = [i for i, doc in enumerate(case.record["docs"]) if not doc["gold"]]
    return restrict(case, bare)


def restrict(case: LabelledReading, docs: Sequence[int]) -> LabelledReading | None:
    """The same question with some of its passages alone, none of them gold; None without a unit.

    Passages are read one by one, so their features stay as they are; words are counted anew.
    """
    record = {**case.record, "docs": [case.record["docs"][d] for d in docs], "answer_spans": []}
    by_passage: dict[int, list[int]] = {d: [] for d in range(len(case.record["docs"]))}
    for i, unit in enumerate(request_units(case.record)):
        by_passage[unit.passage].append(i)
    kept = [i for d in docs for i in by_passage[d]]
    if not kept:
        return None
    tokens = tuple(case.tokens[i] for i in kept)
    reading = Reading(case.isolated[torch.tensor(kept), :-1], tokens, 0, 0, {})
    gold = torch.zeros(len(kept), dtype=torch.bool)
    bare = label_reading(case.source, case.domain, record, request_units(record), reading, gold)
    return replace(bare, fold=case.fold)


def split_by_answer(
    cases: Sequence[LabelledReading],
) -> tuple[list[LabelledReading], list[LabelledReading]]:
    """Those with gold, and those without."""
    with_answer = [case for case in cases if case.gold.any()]
    return with_answer, [case for case in cases if not case.gold.any()]


def fit_answerability(
    features: Callable[[LabelledReading], Tensor],
    present: Sequence[LabelledReading],
    absent: Sequence[LabelledReading],
) -> Tensor:
    """Weights and bias `[len(ANSWER_FEATURES) + 1]` of a logistic regression over requests.

    Questions without an answer are the records labelled so, and every answerable record once more
    with its gold passages removed. Both classes weigh the same, so that 0.5 is even odds, and do so
    in every domain that has both: single documents mostly hold their answer in what is labelled,
    and pools of passages do half the time, which would otherwise be what is learnt.

    Args:
        features: those of a request, `[len(ANSWER_FEATURES)]`.
        present: requests with their answer. absent: those without.
    """
    bare = [one for case in present if (one := remove_gold(case)) is not None]
    cases = [*present, *absent, *bare]
    answered = np.arange(len(cases)) < len(present)
    if answered.all():
        return torch.zeros(0)
    x = torch.stack([features(case) for case in cases]).numpy()
    weight = class_weights([case.domain for case in cases], answered)
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=_C, max_iter=5000))
    fit.fit(x, answered, logisticregression__sample_weight=weight)
    scaler, regression = fit[0], fit[1]
    w = torch.from_numpy(regression.coef_[0] / scaler.scale_)
    bias = torch.tensor(regression.intercept_[0]) - w @ torch.from_numpy(scaler.mean_)
    return torch.cat([w, bias[None]]).float()


def refit_answerability(
    probe: LinearProbe,
    present: Sequence[LabelledReading],
    absent: Sequence[LabelledReading],
    excerpts: Sequence[LabelledReading] = (),
) -> LinearProbe:
    """The same probe with another probability that a context holds its answer, and its floors.

    Scores, order and probabilities of units stay. It is fitted on all folds but the first, and the
    floors are chosen on the first, whose figures are on the card.

    Args:
        present: requests with their answer. absent: those without, written so.
        excerpts: of a few sentences, with an answer or without.

    Raises:
        BadInput: the first fold has answers in fewer than two domains, or nothing is unanswered.
    """
    with_answer, without = split_by_answer(excerpts)
    cases = [("page", True, case) for case in (*present, *with_answer)]
    cases += [(WRITTEN, False, case) for case in absent]
    cases += [("excerpt", False, case) for case in without]
    fitted = [(answered, case) for _, answered, case in cases if case.fold]
    weights = fit_answerability(
        lambda case: _features(probe, case),
        [case for answered, case in fitted if answered],
        [case for answered, case in fitted if not answered],
    )
    if not len(weights):
        raise BadInput("no question is without an answer, and no passage without gold; give some")
    kept = [one for one in cases if not one[-1].fold]
    bare = (remove_gold(case) for _, answered, case in kept if answered)
    kept += [(TAKEN_OUT, False, case) for case in bare if case is not None]
    found = LinearProbe(dict(probe.weights) | {"answerable": weights}, probe.card)
    judged = [
        JudgedContext(case.source, case.domain, kind, answered, _answerability(found, case))
        for kind, answered, case in kept
    ]
    floors = choose_floors(judged, (TAKEN_OUT, WRITTEN))
    present, absent, excerpts = (
        [case for case in some if not case.fold] for some in (present, absent, excerpts)
    )
    figures = dict(probe.card.figures) | {
        "answerability": answerability_figures(found, present, absent),
        "answerability_of_excerpts": answerability_figures(found, *split_by_answer(excerpts)),
        "answerability_by_kind": verdict_shares(judged, floors),
        FLOORS: floors,
    }
    return replace(found, card=replace(found.card, figures=figures))


def _features(probe: LinearProbe, case: LabelledReading) -> Tensor:
    z, _ = unit_scores(probe, case.texts, case.first)
    alone = case.isolated @ probe.weight("alone", (case.isolated.shape[1],))
    return answer_features(z, alone, case.first)


def class_weights(domains: Sequence[str], answered: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Weights `[Q]` under which half of each domain is answered; their mean is 1.

    A domain keeps the weight of its questions. Those that have one class alone are balanced
    together.
    """
    classes = {domain: set[bool]() for domain in domains}
    for domain, one in zip(domains, answered, strict=True):
        classes[domain].add(bool(one))
    groups = np.array([domain if len(classes[domain]) == 2 else "" for domain in domains])
    weight = np.ones(len(domains))
    for group in set(groups):
        for one in (True, False):
            chosen = (groups == group) & (answered == one)
            weight[chosen] = (groups == group).sum() / (2 * max(1, chosen.sum()))
    return np.asarray(weight / weight.mean())


def answerability_figures(
    probe: LinearProbe, present: Sequence[LabelledReading], absent: Sequence[LabelledReading]
) -> dict[str, Any]:
    """AUROC by file: against records without an answer, and against gold passages removed."""
    if "answerable" not in probe.weights or not len(probe.weights["answerable"]):
        return {}
    names = sorted({case.source for case in (*present, *absent)})
    answerable, unanswerable, removed = ({name: list[float]() for name in names} for _ in range(3))
    for case in present:
        answerable[case.source].append(_answerability(probe, case))
        if (bare := remove_gold(case)) is not None:
            removed[case.source].append(_answerability(probe, bare))
    for case in absent:
        unanswerable[case.source].append(_answerability(probe, case))
    sides = answerable, unanswerable, removed
    found = {name: _auroc(*(side[name] for side in sides)) for name in names}
    pooled = ([p for name in names for p in side[name]] for side in sides)
    return found | {"pooled": _auroc(*pooled)}


def _answerability(probe: LinearProbe, case: LabelledReading) -> float:
    z, _ = unit_scores(probe, case.texts, case.first)
    return answerability(probe, case.first, z, case.isolated) or 0.0


def _auroc(
    answerable: list[float], unanswerable: list[float], without_gold: list[float]
) -> dict[str, Any]:
    def auroc_against(other: list[float]) -> float | None:
        if not answerable or not other:
            return None
        truth = np.array([1.0] * len(answerable) + [0.0] * len(other))
        return round(auc(np.array(answerable + other), truth), 4)

    return {
        "answerable": len(answerable),
        "unanswerable": len(unanswerable),
        "auroc": auroc_against(unanswerable),
        "without_gold": len(without_gold),
        "auroc_without_gold": auroc_against(without_gold),
    }


@dataclass(frozen=True, slots=True)
class JudgedContext:
    """A context, and the answerability that a probe gives it.

    Attributes:
        kind: of `tamis_lab.datasets.taken_out`. answered: whether it holds the answer.
    """

    source: str
    domain: str
    kind: str
    answered: bool
    answerability: float


def judge_contexts(
    probe: LinearProbe, case: LabelledReading, contexts: Sequence[Context]
) -> list[JudgedContext]:
    """The answerability of each context of a record that was read once."""
    found = []
    for context in contexts:
        if (part := restrict(case, context.docs)) is not None:
            value = _answerability(probe, part)
            of = case.source, case.domain, context.kind
            found.append(JudgedContext(*of, context.answered, value))
    return found


MAX_FALSE_REFUSALS = 0.03
MAX_FALSE_ANSWERS = 0.1
TAKEN_OUT, WRITTEN = "pool-docs", "written"
PAIRS = {
    "documents": ("pool", "pool-docs"),
    "sentences": ("pool", "pool-sents"),
    "sentences_of_a_page": ("page", "page-sents"),
    "part_of_the_documents": ("pool", "partly"),
    "written_to_look_answerable": ("page", "written"),
}
"""Pairs of kinds that an AUROC is of: with the answer, and without."""


def choose_floors(
    judged: Sequence[JudgedContext], unanswered: Sequence[str] = (TAKEN_OUT,)
) -> dict[str, Any]:
    """The floors of the verdict, and how often they err in a domain that did not choose them.

    Below `partly` are at most 3 % of the contexts with an answer of every domain; from `answerable`
    on is at most a tenth of those without their answer of each kind named, of all domains.

    Args:
        unanswered: kinds of contexts without their answer; documents taken out if not given.

    Raises:
        BadInput: fewer than two domains have contexts with their answer.
    """
    domains = {one.domain for one in judged if one.answered}
    if len(domains) < 2:
        raise BadInput(
            f"contexts with their answer are of {len(domains)} domain, and floors are judged in "
            "one that had no part in choosing them; give --data of two or more"
        )
    held_out = [
        (one, _floors([other for other in judged if other.domain != domain], unanswered))
        for domain in {one.domain for one in judged}
        for one in judged
        if one.domain == domain
    ]
    refused = [one.answerability < floors["partly"] for one, floors in held_out if one.answered]
    sure = [
        one.answerability >= floors["answerable"]
        for one, floors in held_out
        if one.kind in unanswered
    ]
    return {
        **_floors(judged, unanswered),
        "false_refusals": round(float(np.mean(refused)), 4),
        "false_answers": round(float(np.mean(sure)), 4),
        "contexts": len(judged),
    }


def _floors(judged: Sequence[JudgedContext], unanswered: Sequence[str]) -> dict[str, float]:
    lowest = min(
        float(np.quantile(_values(judged, answered=True, domain=domain), MAX_FALSE_REFUSALS))
        for domain in {one.domain for one in judged if one.answered}
    )
    without = ([one.answerability for one in judged if one.kind == kind] for kind in unanswered)
    sure = (float(np.quantile(some, 1 - MAX_FALSE_ANSWERS)) for some in without if some)
    return {"partly": round(lowest, 3), "answerable": round(max([lowest, *sure]), 3)}


def _values(judged: Sequence[JudgedContext], answered: bool, domain: str) -> list[float]:
    return [o.answerability for o in judged if o.answered == answered and o.domain == domain]


def verdict_shares(
    judged: Sequence[JudgedContext], floors: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """By kind of context: how many, and the shares refused and answered."""
    found = {}
    for kind in sorted({one.kind for one in judged}):
        values = np.array([one.answerability for one in judged if one.kind == kind])
        found[kind] = {
            "contexts": len(values),
            "unanswerable": round(float((values < floors["partly"]).mean()), 3),
            "answerable": round(float((values >= floors["answerable"]).mean()), 3),
        }
    return found


def context_aurocs(
    judged: Sequence[JudgedContext], pairs: Mapping[str, tuple[str, str]] = PAIRS
) -> dict[str, float]:
    """AUROC of answerability for each pair of kinds that there is; those written are of SQuAD 2."""
    found = {}
    for name, (with_answer, without) in pairs.items():
        sources = {one.source for one in judged if one.kind == without}
        of = {
            answered: [
                one.answerability for one in judged if one.kind == kind and one.source in sources
            ]
            for answered, kind in ((1.0, with_answer), (0.0, without))
        }
        if of[1.0] and of[0.0]:
            values = np.array(of[1.0] + of[0.0])
            truth = np.array([1.0] * len(of[1.0]) + [0.0] * len(of[0.0]))
            found[name] = round(auc(values, truth), 3)
    return found
