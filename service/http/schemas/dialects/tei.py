"""`POST /rerank` with `texts`, and `/predict`: Hugging Face's text-embeddings-inference.

The answer of a ranking is a bare list, best first; that of a prediction a list for each pair.
`raw_scores` are logits. Documents are read whole, so `truncate` changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, RootModel, Tag

from tamis.compressors.types import Reranked, to_probability
from tamis.service.http.schemas.base import (
    LenientCount,
    LenientFlag,
    Question,
    Response,
    Text,
    TimedRequest,
)
from tamis.service.http.schemas.dialects.ranked_documents import (
    RankedDocument,
    document_warnings,
    texts_of,
)

_MIN_PROBABILITY, _MAX_MAGNITUDE = 1e-9, 1e30


class TeiRequest(TimedRequest):
    """Which texts answer the query best; an empty list is not a 422 error, as in TEI."""

    query: Question
    texts: Annotated[list[RankedDocument], Field(fail_fast=True, json_schema_extra={"minItems": 1})]
    truncate: LenientFlag | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: LenientFlag = False
    return_text: LenientFlag = False
    top_n: LenientCount | None = None
    instruction: Text | None = None

    def ranked_texts(self) -> list[str]:
        """The texts to rank."""
        return texts_of(self.texts)

    def field_warnings(self) -> list[str]:
        """Warnings for ignored request fields and ignored document fields."""
        return [*super().field_warnings(), *document_warnings(self.texts)]


class TeiRank(Response):
    """The rank of one text."""

    index: int
    score: float
    text: Text | None = None


class TeiAnswer(RootModel[list[TeiRank]]):
    """Texts, best first."""


def tei_answer(request: TeiRequest, found: Reranked) -> TeiAnswer:
    """The answer in TEI's dialect."""
    texts = request.ranked_texts()
    return TeiAnswer(
        [
            TeiRank(
                index=ranked.index,
                score=score_of(ranked.score, found.calibrated, request.raw_scores),
                text=texts[ranked.index] if request.return_text else None,
            )
            for ranked in found.results
        ]
    )


Pair = Annotated[list[Text], Field(min_length=2, max_length=2)]


def _inputs_shape(given: Any) -> str:
    return "pair" if isinstance(given, list) and given and isinstance(given[0], str) else "pairs"


class PredictRequest(TimedRequest):
    """One pair of a query and a text, or many: what a reranker of TEI classifies."""

    inputs: Annotated[
        Annotated[Pair, Tag("pair")]
        | Annotated[list[Pair], Field(fail_fast=True, min_length=1), Tag("pairs")],
        Discriminator(_inputs_shape),
    ]
    truncate: LenientFlag | None = None
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = None
    raw_scores: LenientFlag = False

    def pairs(self) -> list[list[str]]:
        """The pairs."""
        one = _inputs_shape(self.inputs) == "pair"
        pairs: list[Any] = [self.inputs] if one else self.inputs
        return pairs


class TeiPrediction(Response):
    """The score of the one label that a reranker has."""

    score: float
    label: Literal["LABEL_0"] = "LABEL_0"


class TeiPredictions(RootModel[list[TeiPrediction] | list[list[TeiPrediction]]]):
    """One label for a pair, in a list for each pair where many were given."""


def predict_answer(request: PredictRequest, scores: Sequence[tuple[float, bool]]) -> TeiPredictions:
    """The answer to `/predict`.

    Args:
        scores: of each pair its score, and whether that is a probability.
    """
    found = [
        [TeiPrediction(score=score_of(score, calibrated, request.raw_scores))]
        for score, calibrated in scores
    ]
    return TeiPredictions(found[0] if _inputs_shape(request.inputs) == "pair" else found)


def score_of(score: float, calibrated: bool, raw: bool) -> float:
    """A score in [0, 1]; if `raw`, the logit of a probability, or an uncalibrated score itself."""
    if not raw:
        return to_probability(score, calibrated)
    return logit(score) if calibrated else max(score, -_MAX_MAGNITUDE)


def logit(p: float) -> float:
    """The number whose sigmoid is p, kept finite."""
    p = min(max(p, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(p / (1 - p))
