"""`POST /v1/search`: passages of an index."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, WithJsonSchema

from tamis.retrieval.index.filters import MAX_CONDITION_CHARS
from tamis.service.http.schemas.base import MOST_MS, Question, Response, StrictRequest, Text

if TYPE_CHECKING:
    from tamis.retrieval.index.store import Hits

Condition = Annotated[Text, WithJsonSchema({"type": "string", "maxLength": MAX_CONDITION_CHARS})]
"""A condition on metadata as text; what reads conditions everywhere refuses a longer one."""


class SearchRequest(StrictRequest):
    """The question, the index, and conditions on passages.

    With `read` the question attends to kept keys and values, `keys` of them, and that ranks
    passages.
    """

    question: Question
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    index: Text | None = None
    where: dict[str, Any] | list[Condition] | Condition | None = None
    by: list[Literal["bm25", "keys", "vectors"]] | None = None
    search: Literal["auto", "exact", "graph", "ivf"] = "auto"
    read: Literal["retrieved"] | None = None
    selector: Text = "index"
    keys: Annotated[int, Field(ge=1, le=2**31)] | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None


class SearchHit(Response):
    """One passage: `text` is `document[start:end]`, in code points."""

    id: Text
    document: Text
    text: Text
    start: int
    end: int
    score: float
    scores: dict[str, float]
    title: Text | None
    heading: Text | None
    metadata: dict[str, Any]


class SearchAnswer(Response):
    """Passages, best first; `keys_read` is what each vector of the question was compared with."""

    object: Literal["list"] = "list"
    index: Text
    data: list[SearchHit]
    keys_read: int


def search_answer(index: str, hits: Hits) -> SearchAnswer:
    """The answer for the hits of a `CorpusIndex`."""
    data = [
        SearchHit(
            id=str(hit.id),
            document=str(hit.doc),
            text=hit.text,
            start=hit.start,
            end=hit.stop,
            score=float(hit.score),
            scores=dict(hit.scores or {}),
            title=hit.title,
            heading=hit.heading,
            metadata=dict(hit.metadata),
        )
        for hit in hits
    ]
    return SearchAnswer(index=index, data=data, keys_read=hits.keys_read)
