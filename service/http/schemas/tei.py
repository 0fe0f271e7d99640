"""`POST /rerank` with `texts`: Hugging Face's text-embeddings-inference.

The answer is a bare list, best first. `raw_scores` are logits. Documents are read whole, so
`truncate` changes nothing.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, RootModel

from tamis.compressors.types import Reranked
from tamis.service.http.schemas.base import LenientRequest, Question, Response, Text, to_probability

_MIN_PROBABILITY, _MAX_MAGNITUDE = 1e-9, 1e30


class TeiRequest(LenientRequest):
    """Which texts answer the query best; an empty list is not a 422 error, as in TEI."""

    query: Question
    texts: Annotated[list[Text], Field(json_schema_extra={"minItems": 1})]
    truncate: bool | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: bool = False
    return_text: bool = False


class TeiRank(Response):
    """The rank of one text."""

    index: int
    score: float
    text: Text | None = None


class TeiAnswer(RootModel[list[TeiRank]]):
    """Texts, best first."""


def tei_answer(request: TeiRequest, found: Reranked) -> TeiAnswer:
    """The answer in TEI's dialect."""
    return TeiAnswer(
        [
            TeiRank(
                index=ranked.index,
                score=score_of(ranked.score, found.calibrated, request.raw_scores),
                text=request.texts[ranked.index] if request.return_text else None,
            )
            for ranked in found.results
        ]
    )


def score_of(score: float, calibrated: bool, raw: bool) -> float:
    """A score in [0, 1]; if `raw`, the logit of a probability, or an uncalibrated score itself."""
    if not raw:
        return to_probability(score, calibrated)
    return logit(score) if calibrated else max(score, -_MAX_MAGNITUDE)


def logit(p: float) -> float:
    """The number whose sigmoid is p, kept finite."""
    p = min(max(p, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(p / (1 - p))
