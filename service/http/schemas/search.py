"""`POST /v1/search`: passages of an index; `POST /v1/tools/rank`: tools of a request."""

from __future__ import annotations

from itertools import chain
from typing import Annotated, Any, Literal, Self

from pydantic import Field, WithJsonSchema, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import PydanticCustomError

from tamis.retrieval.index.filters import MAX_CONDITION_CHARS
from tamis.service.api.rank_tools import THRESHOLD, TOP_N, asked_of
from tamis.service.http.schemas.base import (
    MOST_MS,
    Language,
    Question,
    Response,
    StrictRequest,
    Text,
)
from tamis.text.language import AUTO

Condition = Annotated[Text, WithJsonSchema({"type": "string", "maxLength": MAX_CONDITION_CHARS})]
"""A condition on metadata as text; what reads conditions everywhere refuses a longer one."""
MOST_VALUES = 10_000
"""The most values that all conditions of a search may have."""


class SearchRequest(StrictRequest):
    """The question, the index, and conditions on passages.

    `read`, `selector` and `keys` are for research, and no part of the document of the service.
    """

    question: Question
    k: Annotated[int, Field(ge=1, le=1000)] = 10
    index: Text | None = None
    where: dict[str, Any] | list[Condition] | Condition | None = None
    by: list[Literal["bm25", "keys", "vectors"]] | None = None
    search: Literal["auto", "exact", "graph"] = "auto"
    read: Annotated[Literal["retrieved"] | None, SkipJsonSchema()] = None
    selector: Annotated[Text, SkipJsonSchema()] = "index"
    keys: Annotated[Annotated[int, Field(ge=1, le=2**31)] | None, SkipJsonSchema()] = None
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None

    @field_validator("where")
    @classmethod
    def _check_where(cls, where: Any) -> Any:
        if (count := _count_values(where)) > MOST_VALUES:
            raise PydanticCustomError(
                "where",
                "where has {count} values, and {most} is the most of a request; give fewer, or a "
                "key that many of these documents share",
                {"count": f"{count:,}", "most": f"{MOST_VALUES:,}"},
            )
        return where


def _count_values(where: Any) -> int:
    """How many values conditions compare with."""
    if isinstance(where, dict):
        each = (one.values() if isinstance(one, dict) else [one] for one in where.values())
        values = chain.from_iterable(each)
        return sum(len(value) if isinstance(value, list) else 1 for value in values)
    texts = [where] if isinstance(where, str) else where or []
    return sum(1 + text.count(",") for text in texts)


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


class RankToolsRequest(StrictRequest):
    """A question, or the messages whose last turn of the user asks, and definitions of tools.

    Tools have the shape of OpenAI, Anthropic, Gemini or the Model Context Protocol.
    """

    question: Question | None = None
    messages: list[dict[str, Any]] | None = None
    tools: list[dict[str, Any]]
    top_n: Annotated[int, Field(ge=1, le=2**31)] | None = TOP_N
    threshold: Annotated[float, Field(strict=False, ge=0, le=1)] = THRESHOLD
    language: Language = AUTO
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None

    @model_validator(mode="after")
    def _check_asked(self) -> Self:
        if (self.question is None) == (self.messages is None):
            raise PydanticCustomError("asked", "give question, or messages, and not both")
        return self

    @property
    def asked(self) -> str:
        """What is asked.

        Raises:
            BadInput: no message of a user has text.
        """
        return asked_of(self.messages if self.question is None else self.question)


class RankedToolAnswer(Response):
    """A tool's place in the request, its name, and how well it fits, from 0 to 1."""

    index: int
    name: Text
    score: float


class RankedToolsAnswer(Response):
    """Tools, the one that fits best first; `fits` is whether any of them does.

    `encoder` is the model whose vectors were compared; null where words alone were.
    """

    object: Literal["list"] = "list"
    data: list[RankedToolAnswer]
    fits: bool
    encoder: str | None
    warnings: list[str]
