"""Several scores as one: attention, words, and sentence cosine where an encoder is installed.

Scores are standardised within the request and summed with weights (a linear combination of
z-scores, the usual score fusion; Fox & Shaw 1994, CombSUM). The weights of sentences were fitted on
articles that the probe never saw: the default's own word features leave little for the others to
add there, and they get as much weight as costs less than one standard error of evidence. Documents
have weights of their own, fitted on training claims out of the probe's folds: there the encoder
adds something.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.scales import log_odds, scalar_log_odds, z_scores
from tamis.compressors.method import (
    MethodInfo,
    ModelSource,
    Scorer,
    ScoringMethod,
    best_unit_scores,
)
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.options import option
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.text.inputs import is_number
from tamis.text.types import Passage, Unit

UNIT_WEIGHTS = {"attention": 1.0, "lexical": 0.1, "embedding": 0.05}
"""The default weight of each part; a part of another name weighs 1."""
RANK_WEIGHTS = {"attention": 0.8, "lexical": 0.0, "embedding": 0.2}
"""Likewise where whole documents are ranked; a part with weight 0 does not run. The words of the
question are among the features of the attention's own probe of documents."""
_EPSILON = 1e-9
_UNIT_MARGIN = 1e-6
_DOCUMENT_MARGIN = 1e-9


class Fusion(ScoringMethod):
    """A weighted sum of standardised scores."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "question_rows + lexical + embedding when there, z-scores, fitted weights",
        "CombSUM, Fox & Shaw 1994",
        "proxy+encoder",
    )
    first_stage_weight: ClassVar[float] = 0.9

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """As many as the part `attention` reads."""
        return QuestionRows.layers_needed(model, {})

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """The method with attention and words, and with the encoder where it is installed.

        Raises:
            ProxyMissing: a weight is given for the encoder, and it is not on this machine.
        """
        parts: dict[str, Scorer] = {
            # the encoder has a part of its own here; z-scores are of what was read, not estimated
            "attention": QuestionRows.build(models, {"use_encoder": False, "gate": False}),
            "lexical": Lexical(),
        }
        try:
            parts["embedding"] = Embedding.build(models, {})
        except ProxyMissing:
            if "embedding" in (options.get("weights") or {}):
                raise
        return cls(parts, **options)

    parts: Mapping[str, Scorer]
    weights: Mapping[str, float] = option(
        None,
        "A weight by the name of its part: attention, lexical, embedding. None, or a part that is "
        "not named, has the fitted one.",
        takes=Mapping[str, float] | None,
    )

    def setup(self) -> None:
        """Gives each part a weight for units and one for documents.

        Raises:
            BadInput: a weight for a part that is not there, or a weight that is not finite.
        """
        given = dict(self.weights or {})
        if unknown := sorted(set(given) - set(self.parts)):
            raise BadInput(f"weights are given for {unknown}; the parts are {sorted(self.parts)}")
        if bad := [
            name
            for name, weight in given.items()
            if not (is_number(weight) and math.isfinite(weight))
        ]:
            raise BadInput(f"the weights of {bad} are not finite numbers")
        self.weights = {n: given.get(n, UNIT_WEIGHTS.get(n, 1.0)) for n in self.parts}
        self.rank_weights = {n: given.get(n, RANK_WEIGHTS.get(n, 1.0)) for n in self.parts}

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The weighted sum of each part's z-scores."""
        part_scores = {
            name: part.scores(question, passages, units) for name, part in self.parts.items()
        }
        return fuse_scores(part_scores, self.weights, passages, units)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The weighted sum of the z-scores that each part gives to passages."""
        part_ranks = {
            name: part.rank(question, passages, units)
            for name, part in self.parts.items()
            if self.rank_weights[name]
        }
        total = np.zeros(len(passages))
        for name, part in part_ranks.items():
            values: Sequence[float] = part.values
            if part.calibrated:
                values = scalar_log_odds(values, _DOCUMENT_MARGIN)
            total += self.rank_weights[name] * z_scores(values)
        return Ranks(
            tuple(total.tolist()),
            windows=sum(part.windows for part in part_ranks.values()),
            tokens_read=sum(part.tokens_read for part in part_ranks.values()),
            timings_ms=_sum_timings(part.timings_ms for part in part_ranks.values()),
            warnings=tuple(line for part in part_ranks.values() for line in part.warnings),
            tokens_cached=sum(part.tokens_cached for part in part_ranks.values()),
        )


def fuse_scores(
    part_scores: Mapping[str, Scores],
    weights: Mapping[str, float],
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> Scores:
    """The weighted sum of several methods' z-scores of the same units.

    Probabilities are summed as log odds, so that the best units stand apart.
    """
    total = np.zeros(len(units))
    for name, part in part_scores.items():
        part_values: Sequence[float] | NDArray[np.float64] = part.values
        if part.calibrated:
            part_values = log_odds(part.values, _UNIT_MARGIN)
        total += weights[name] * z_scores(part_values, _EPSILON)
    values = tuple(total.tolist())
    return Scores(
        values,
        best_unit_scores(values, units, len(passages)),
        windows=sum(part.windows for part in part_scores.values()),
        tokens_read=sum(part.tokens_read for part in part_scores.values()),
        timings_ms=_sum_timings(part.timings_ms for part in part_scores.values()),
        tokens_cached=sum(part.tokens_cached for part in part_scores.values()),
    )


def _sum_timings(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The milliseconds of each stage, over all parts."""
    timings: dict[str, float] = {}
    for part in parts:
        for stage, ms in part.items():
            timings[stage] = timings.get(stage, 0.0) + ms
    return timings


Method = Fusion
