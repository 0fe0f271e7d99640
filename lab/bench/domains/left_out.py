"""Fits without a domain, and the scores that they give to its questions.

    cases ─┬─ first step without {d}, and without {d, e} for every other e: each fitted once
           └─ second step without {d}: a question of e has the scores of the fit without {d, e}

So the second step learns how far a first step can be trusted that never saw the like, and is judged
on a domain that neither step has seen. Adapters of a LoRA-trained proxy have seen some of the sets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from tamis.compressors.features.second_step import ENCODER
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe
from tamis_lab.train.fit import fit_listwise, fit_logistic
from tamis_lab.train.probe.answerability import UNFINISHED_CARD
from tamis_lab.train.probe.figures import scores_of
from tamis_lab.train.probe.fitting import (
    L2,
    MIN_DOMAINS,
    SINGLE_L2,
    first_questions,
    fit_on_hard_units,
    fit_second_step,
    isolated_questions,
)
from tamis_lab.train.probe.labelled_readings import LabelledReading

Weights = tuple[Tensor, float]


@dataclass(slots=True)
class LeftOutFits:
    """All fits of one set of cases; those of the first step are shared by several judges."""

    cases: Sequence[LabelledReading]
    _first: dict[frozenset[str], tuple[Weights, Weights, Weights]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.domains) < MIN_DOMAINS:
            raise BadInput(
                f"there are {len(self.domains)} domains ({', '.join(self.domains)}); leaving one "
                f"out means something from {MIN_DOMAINS} on: give more sets"
            )

    @property
    def domains(self) -> list[str]:
        """The domains, sorted."""
        return sorted({case.domain for case in self.cases})

    def probe_without(self, domain: str) -> LinearProbe:
        """A probe fitted on all other domains, by all steps."""
        others = [case for case in self.cases if case.domain != domain]
        first, single = [], []
        for case in others:
            steps = self._first_steps(frozenset({domain, case.domain}))
            first.append(case.first @ steps[0][0] + steps[0][1])
            single.append(case.first @ steps[1][0] + steps[1][1])
        steps = self._first_steps(frozenset({domain}))
        weights = {"first": steps[0][0], "single": steps[1][0], "alone": steps[2][0]}
        weights |= fit_second_step(others, first, single)
        return LinearProbe(weights, UNFINISHED_CARD)

    def _first_steps(self, without: frozenset[str]) -> tuple[Weights, Weights, Weights]:
        """Both fits of the first step and attention alone, without some domains."""
        if without not in self._first:
            used = [case for case in self.cases if case.domain not in without]
            first, alone = first_questions(used), isolated_questions(used)
            self._first[without] = (
                fit_on_hard_units(used, first, fit_listwise, L2, True),
                fit_on_hard_units(used, first, fit_logistic, SINGLE_L2, True),
                fit_on_hard_units(used, alone, fit_logistic, SINGLE_L2, True),
            )
        return self._first[without]


def method_scores(probe: LinearProbe, case: LabelledReading) -> dict[str, Tensor]:
    """What each way of scoring gives to the units of a case, by its name in the table."""
    found = {
        "without encoder": scores_of(probe, case),
        "attention alone": case.isolated @ probe.weight("alone", (case.isolated.shape[1],)),
    }
    if case.cosines is None or f"{ENCODER}levels" not in probe.weights:
        return {"default": found["without encoder"], **found}
    return {"default": scores_of(probe, case, with_cosines=True), **found}
