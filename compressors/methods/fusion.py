"""Several signals as one: attention, words, and sentence cosine where an encoder is there.

Scores are standardised within the request and summed with weights (a linear combination of
z-scores, the usual score fusion; Fox & Shaw 1994, CombSUM). The weights of sentences were fitted on
articles that the probe never saw: the default's own words leave little for others to say there, and
they get as much as costs less than one standard error of evidence. Documents have weights of their
own, fitted on training claims out of the probe's folds: there the encoder knows something.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np

from tamis.compressors.checks import is_number
from tamis.compressors.features.rank_fusion import to_log_odds, z_scores
from tamis.compressors.method import Info, Models, Scorer, ScoringMethod, best_unit_scores
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.text import Passage, Unit

WEIGHTS = {"attention": 1.0, "lexical": 0.1, "embedding": 0.05}
"""What each part weighs unless told otherwise; a part of another name weighs 1."""
RANK_WEIGHTS = {"attention": 0.8, "lexical": 0.0, "embedding": 0.2}
"""Likewise where whole documents are ranked; what weighs nothing is not asked. The words of the
question are among the features of the attention's own probe of documents."""


class Fusion(ScoringMethod):
    """A weighted sum of standardised scores."""

    info: ClassVar[Info] = Info(
        "question_rows + lexical + embedding when there, z-scores, fitted weights",
        "CombSUM, Fox & Shaw 1994",
        "proxy+encoder",
    )

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """As many as the attention part reads."""
        return QuestionRows.layers_needed(model, {})

    @classmethod
    def build(cls, models: Models, options: Mapping[str, Any]) -> Self:
        """Attention and words always; the encoder where it is installed, or where it is weighed.

        Raises:
            ProxyMissing: a weight is given for the encoder, and it is not on this machine.
        """
        parts: dict[str, Scorer] = {
            "attention": QuestionRows.build(models, {}),
            "lexical": Lexical(),
        }
        try:
            parts["embedding"] = Embedding.build(models, {})
        except ProxyMissing:
            if "embedding" in (options.get("weights") or {}):
                raise
        return cls(parts, **options)

    def __init__(
        self, parts: Mapping[str, Scorer], weights: Mapping[str, float] | None = None
    ) -> None:
        """Parts by name, with a weight each (`WEIGHTS` and `RANK_WEIGHTS` unless given).

        Raises:
            BadInput: a weight for a part that is not there, or a weight that is not finite.
        """
        weights = dict(weights or {})
        if unknown := sorted(set(weights) - set(parts)):
            raise BadInput(f"weights are given for {unknown}; the parts are {sorted(parts)}")
        if bad := [
            name
            for name, weight in weights.items()
            if not (is_number(weight) and math.isfinite(weight))
        ]:
            raise BadInput(f"the weights of {bad} are not finite numbers")
        self.parts = dict(parts)
        self.weights = {n: weights.get(n, WEIGHTS.get(n, 1.0)) for n in parts}
        self.rank_weights = {n: weights.get(n, RANK_WEIGHTS.get(n, 1.0)) for n in parts}

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The weighted sum of each part's z-scores."""
        seen = {name: part.scores(question, passages, units) for name, part in self.parts.items()}
        return fuse_scores(seen, self.weights, passages, units)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The weighted sum of the z-scores that each part gives to passages."""
        seen = {
            name: part.rank(question, passages, units)
            for name, part in self.parts.items()
            if self.rank_weights[name]
        }
        total = np.zeros(len(passages))
        for name, part in seen.items():
            values = to_log_odds(part.values) if part.calibrated else part.values
            total += self.rank_weights[name] * z_scores(values)
        return Ranks(
            tuple(total.tolist()),
            windows=sum(part.windows for part in seen.values()),
            tokens_read=sum(part.tokens_read for part in seen.values()),
            timings_ms=_summed(part.timings_ms for part in seen.values()),
            warnings=tuple(told for part in seen.values() for told in part.warnings),
            tokens_cached=sum(part.tokens_cached for part in seen.values()),
        )


def fuse_scores(
    seen: Mapping[str, Scores],
    weights: Mapping[str, float],
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> Scores:
    """Scores of several methods for the same units as one."""
    total = np.zeros(len(units))
    for name, part in seen.items():
        total += weights[name] * _standard(_opened(part))
    values = tuple(total.tolist())
    return Scores(
        values,
        best_unit_scores(values, units, len(passages)),
        windows=sum(part.windows for part in seen.values()),
        tokens_read=sum(part.tokens_read for part in seen.values()),
        timings_ms=_summed(part.timings_ms for part in seen.values()),
        tokens_cached=sum(part.tokens_cached for part in seen.values()),
    )


def _summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The milliseconds of each stage, over all parts."""
    timings: dict[str, float] = {}
    for part in parts:
        for stage, ms in part.items():
            timings[stage] = timings.get(stage, 0.0) + ms
    return timings


def _opened(part: Scores) -> np.ndarray:
    """Probabilities as log odds, so that the best units stand apart; other scores as they are."""
    values = np.array(part.values)
    if not part.calibrated:
        return values
    p = values.clip(1e-6, 1 - 1e-6)
    return np.asarray(np.log(p / (1 - p)))


def _standard(values: np.ndarray) -> np.ndarray:
    return np.asarray((values - values.mean()) / (values.std() + 1e-9)) if len(values) else values


Method = Fusion
