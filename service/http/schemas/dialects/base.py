"""What dialects are made of: the row of one, calls in our own terms, documents to rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from tamis.compressors.types import Reranked, to_probability
from tamis.service.http.runtime.errors import ErrorFormat
from tamis.service.http.schemas.base import (
    WARNINGS_HEADER,
    Language,
    Question,
    Text,
    TimedRequest,
    cut_name,
)
from tamis.service.http.schemas.compress import CompressRequest
from tamis.text.language import AUTO

IN_HEADER = f"header `{WARNINGS_HEADER}`"
DOCUMENTS_PER_UNIT = 100
"""Documents of one search unit, which Cohere bills by."""
_MIN_PROBABILITY, _MAX_MAGNITUDE = 1e-9, 1e30
MAX_RANK_FIELDS = 64
_SHOWN_NAMES = 5


@dataclass(frozen=True, slots=True)
class RankCall:
    """Documents to sort, by the service's method or the one that `model` names.

    Attributes:
        with_spans: whether the answer needs units, for which words alone do not do.
    """

    question: str
    texts: list[str]
    top_n: int | None = None
    model: str | None = None
    priority: int = 0
    instruction: str | None = None
    timeout_ms: int | None = None
    with_spans: bool = False
    language: str = AUTO
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class ScoreCall:
    """Pairs to score, each independently of the others; one question may be for all texts."""

    questions: Sequence[str]
    texts: list[str]
    model: str | None = None
    priority: int = 0
    instruction: str | None = None
    timeout_ms: int | None = None
    language: str = AUTO


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores of pairs.

    Attributes:
        scores: of each pair its score, and whether that is a probability.
        tokens_read: of all pairs.
    """

    scores: list[tuple[float, bool]]
    tokens_read: int
    warnings: list[str]

    def probabilities(self) -> list[float]:
        """The scores in [0, 1]."""
        return [to_probability(*score) for score in self.scores]


@dataclass(frozen=True, slots=True)
class CompressCall:
    """Requests of our own, which are served together; their questions are answered in order.

    Attributes:
        any_model: whether a model that is not served here means the default.
    """

    requests: Sequence[CompressRequest]
    any_model: bool = True


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a request came, for dialects that read more than its body.

    Attributes:
        path: of the address.
        path_model: the model that the path names, if it names one.
        headers: those of the request, by names in any case.
        device: the device of the settings.
        answered_model: the `model` of an answer, by the one that the request named.
        elapsed_ms: the time since the request came.
    """

    path: str
    path_model: str | None
    headers: Mapping[str, str]
    device: str
    answered_model: Callable[[str | None], str]
    elapsed_ms: Callable[[], float]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dialect:
    """One dialect: how its requests become calls of ours, and what we find becomes its answers.

    Attributes:
        name: whose it is, as the documentation says it.
        request: the model of its requests; a field that does nothing here says so by `NoEffect`.
        answer: the model of its answers, or a union of them.
        to_answer: the answer to a request, from what its call has found.
        to_call: the call for a request; by default what the request's own `to_call` says.
        key: a field that its requests have, and those of other dialects at its path have not.
        claims: whether a body, with the key if there is one, is of this dialect; by default it is.
        errors: the format of its errors.
        warnings: where an answer has its warnings: a field of it, or the response header.
        omits_none: whether an answer leaves out fields that are null.
        headers: further headers of an answer, each with its schema.
        to_headers: the values of these headers.
        keeps: whether the answer may be kept for the same request; None where it never is.
    """

    name: str
    request: type[BaseModel]
    answer: Any
    to_answer: Callable[[Any, Any, Arrival], BaseModel]
    to_call: Callable[[Any, Arrival], Any] = lambda body, arrival: body.to_call(arrival)
    key: str | None = None
    claims: Callable[[Mapping[str, Any]], bool] | None = None
    errors: ErrorFormat = "openai"
    warnings: str = IN_HEADER
    omits_none: bool = False
    headers: Mapping[str, Any] = field(default_factory=dict)
    to_headers: Callable[[Any, Any, Arrival], dict[str, str]] | None = None
    keeps: Callable[[Any], bool] | None = None


class RankedObject(BaseModel):
    """A document as an object; Cohere ranks by the fields that `rank_fields` names."""

    model_config = ConfigDict(strict=True, extra="allow")

    text: Text | None = None

    def fields(self) -> dict[str, Any]:
        """All of its fields."""
        return {**(self.model_extra or {}), "text": self.text}


def _check_ranked_text(document: str | RankedObject, info: ValidationInfo) -> str | RankedObject:
    """Refuses a document without the text that it is ranked by."""
    if isinstance(document, RankedObject):
        names = info.data.get("rank_fields") or ["text"]
        if not _ranked_texts(document, names):
            shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN_NAMES])
            raise PydanticCustomError("no_text", "it has no text in [{names}]", {"names": shown})
    return document


def _check_names(names: list[str]) -> list[str]:
    """Refuses a field that is named twice: each naming would repeat the text of every document."""
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        shown = {"name": f"{twice!r:.80}"}
        raise PydanticCustomError("repeated", "it has {name} twice; name each field once", shown)
    return names


RankFields = Annotated[
    list[Text],
    Field(fail_fast=True, max_length=MAX_RANK_FIELDS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_names),
]
"""Names of the fields to rank by, each once."""
RankedDocument = Annotated[Text | RankedObject, AfterValidator(_check_ranked_text)]
"""A document that has text to rank by; `rank_fields` has to be declared before it."""


MinScore = Annotated[
    float,
    Field(ge=0, le=1, description="Leave out documents whose probability of an answer is lower."),
]


class RankRequest(TimedRequest):
    """A query and documents, ranked by their text or by some of their fields."""

    query: Question
    rank_fields: RankFields | None = None
    documents: Annotated[list[RankedDocument], Field(fail_fast=True)]
    model: Text | None = None
    language: Language = AUTO
    min_score: MinScore | None = None

    def rank_call(self, top_n: int | None, **more: Any) -> RankCall:
        """The call for this request, with what `more` gives besides."""
        return RankCall(
            self.query,
            self.texts(),
            top_n,
            self.model,
            timeout_ms=self.timeout_ms,
            language=self.language,
            min_score=self.min_score,
            **more,
        )

    def texts(self) -> list[str]:
        """The text of each document that is ranked."""
        return texts_of(self.documents, self.rank_fields)

    def returned_texts(self) -> list[str]:
        """The text to return of each document: its own, or the ranked text where it has none."""
        ranked = self.texts()
        own = [getattr(document, "text", document) for document in self.documents]
        return [text if isinstance(text, str) else ranked[i] for i, text in enumerate(own)]

    def field_warnings(self) -> list[str]:
        """Warnings for ignored request fields and ignored document fields."""
        return [*super().field_warnings(), *document_warnings(self.documents, self.rank_fields)]


def texts_of(
    documents: Sequence[str | RankedObject], names: Sequence[str] | None = None
) -> list[str]:
    """The text that each document is ranked by: the fields of these names, by default `text`."""
    return [
        d if isinstance(d, str) else "\n".join(_ranked_texts(d, names or ["text"]))
        for d in documents
    ]


def document_warnings(
    documents: Sequence[str | RankedObject], names: Sequence[str] | None = None
) -> list[str]:
    """Warnings of fields that documents are not ranked by, and of `names` that none of them has."""
    objects = [d for d in documents if isinstance(d, RankedObject)]
    ranked = {*(names or ()), "text"}
    others = list(
        dict.fromkeys(name for d in objects for name in d.model_extra or () if name not in ranked)
    )
    warnings = []
    if others:
        shown = _shown_names(others)
        warnings.append(
            f"documents have fields that are not ranked ({shown}); only their text is read"
        )
    has_text = {"text"} if len(objects) < len(documents) else set()
    has_text |= {name for d in objects for name, value in d.fields().items() if type(value) is str}
    if lost := [name for name in names or () if name not in has_text]:
        shown = _shown_names(lost)
        warnings.append(f"rank_fields has no effect for {shown}: no document has text there")
    return warnings


def _shown_names(names: Sequence[str]) -> str:
    return ", ".join(map(cut_name, names[:_SHOWN_NAMES]))


def _ranked_texts(document: RankedObject, names: Sequence[str]) -> list[str]:
    fields = document.fields()
    return [fields[name] for name in names if isinstance(fields.get(name), str)]


def search_units(documents: int) -> int:
    """How many units Cohere would bill."""
    return -(-documents // DOCUMENTS_PER_UNIT)


def ranked_scores(found: Reranked, raw: bool = False) -> list[tuple[int, float]]:
    """The documents by their indices, best first, each with the score that `score_of` gives."""
    return [(one.index, score_of(one.score, found.calibrated, raw)) for one in found.results]


def score_of(score: float, calibrated: bool, raw: bool) -> float:
    """A score in [0, 1]; if `raw`, the logit of a probability, or an uncalibrated score itself."""
    if not raw:
        return to_probability(score, calibrated)
    return logit(score) if calibrated else max(score, -_MAX_MAGNITUDE)


def logit(p: float) -> float:
    """The number whose sigmoid is p, kept finite."""
    p = min(max(p, _MIN_PROBABILITY), 1 - _MIN_PROBABILITY)
    return math.log(p / (1 - p))
