"""`POST /rerank` with `texts`, and `/predict`: Hugging Face's text-embeddings-inference.

The answer of a ranking is a bare list, best first; that of a prediction a list for each pair.
`raw_scores` are logits. TEI reads texts one by one, and its headers have their mean; here texts are
read together, and the times are of the whole request, in whole milliseconds.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, RootModel, Tag

from tamis.compressors.types import Reranked
from tamis.probes.model.loading import choose_device
from tamis.service.engine.errors import EmptyInput
from tamis.service.http.schemas.base import (
    NOTHING_TRUNCATED,
    LenientCount,
    LenientFlag,
    Question,
    Response,
    Text,
    TimedRequest,
)
from tamis.service.http.schemas.dialects.base import (
    Arrival,
    Dialect,
    Pairs,
    RankCall,
    RankedDocument,
    ScoreCall,
    document_warnings,
    ranked_scores,
    score_of,
    texts_of,
)

_HEADERS = {
    "x-compute-type": "where the model runs, such as cpu or cuda.",
    "x-compute-time": "milliseconds in all.",
    "x-compute-characters": "characters of the texts, and of the query once for each.",
    "x-compute-tokens": "tokens that were read.",
    "x-total-time": "milliseconds in all.",
    "x-tokenization-time": "milliseconds of finding sentences and tokens.",
    "x-queue-time": "milliseconds in the queue before the model.",
    "x-inference-time": "milliseconds of the model's forward passes.",
}
_Truncate = Annotated[LenientFlag | None, NOTHING_TRUNCATED]
_Direction = Annotated[Literal["left", "right", "Left", "Right"] | None, NOTHING_TRUNCATED]


class TeiRequest(TimedRequest):
    """Which texts answer the query best; an empty list is not a 422 error, as in TEI."""

    query: Question
    texts: Annotated[list[RankedDocument], Field(fail_fast=True, json_schema_extra={"minItems": 1})]
    truncate: _Truncate = None
    truncation_direction: _Direction = None
    raw_scores: LenientFlag = False
    return_text: LenientFlag = False
    top_n: LenientCount | None = None
    instruction: Text | None = None

    def to_call(self, _: Arrival) -> RankCall:
        """The ranking that is asked for.

        Raises:
            EmptyInput: there are no texts.
        """
        if not self.texts:
            raise EmptyInput("texts is empty; give at least one")
        return RankCall(
            self.query,
            texts_of(self.texts),
            self.top_n,
            instruction=self.instruction,
            timeout_ms=self.timeout_ms,
        )

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


def tei_answer(request: TeiRequest, found: Reranked, _: Arrival) -> TeiAnswer:
    """The answer in TEI's dialect."""
    texts = texts_of(request.texts)
    return TeiAnswer(
        [
            TeiRank(index=i, score=score, text=texts[i] if request.return_text else None)
            for i, score in ranked_scores(found, request.raw_scores)
        ]
    )


def tei_headers(request: TeiRequest, found: Reranked, arrival: Arrival) -> dict[str, str]:
    """The headers of an answer, from the timings of a ranking."""

    def ms(*names: str) -> int:
        return int(sum(found.timings_ms.get(name, 0.0) for name in names))

    read = sum(map(len, texts_of(request.texts))) + len(request.query) * len(request.texts)
    total, queue, model = ms("total"), ms("queue"), ms("forward")
    measured = (total, read, found.tokens_read, total, ms("segment", "tokenize"), queue, model)
    values = (choose_device(arrival.device).type, *map(str, measured))
    return dict(zip(_HEADERS, values, strict=True))


TEI = Dialect(
    name="TEI",
    request=TeiRequest,
    answer=TeiAnswer,
    to_answer=tei_answer,
    key="texts",
    errors="tei",
    omits_none=True,
    headers={
        name: {
            "description": f"To TEI's requests: {text}",
            "schema": {"type": "string" if name == "x-compute-type" else "integer"},
        }
        for name, text in _HEADERS.items()
    },
    to_headers=tei_headers,
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
    truncate: _Truncate = None
    truncation_direction: _Direction = None
    raw_scores: LenientFlag = False

    def to_call(self, _: Arrival) -> ScoreCall:
        """The pairs; one query where all are the same."""
        one = _inputs_shape(self.inputs) == "pair"
        pairs: list[Any] = [self.inputs] if one else self.inputs
        queries, texts = map(list, zip(*pairs, strict=True))
        same = queries[:1] if len(set(queries)) == 1 else queries
        return ScoreCall(same, texts, timeout_ms=self.timeout_ms)


class TeiPrediction(Response):
    """The score of the one label that a reranker has."""

    score: float
    label: Literal["LABEL_0"] = "LABEL_0"


class TeiPredictions(RootModel[list[TeiPrediction] | list[list[TeiPrediction]]]):
    """One label for a pair, in a list for each pair where many were given."""


def predict_answer(request: PredictRequest, found: Pairs, _: Arrival) -> TeiPredictions:
    """The answer to `/predict`."""
    lists = [
        [TeiPrediction(score=score_of(score, calibrated, request.raw_scores))]
        for score, calibrated in found.scores
    ]
    return TeiPredictions(lists[0] if _inputs_shape(request.inputs) == "pair" else lists)


TEI_PREDICT = Dialect(
    name="TEI",
    request=PredictRequest,
    answer=TeiPredictions,
    to_answer=predict_answer,
    errors="tei",
)
