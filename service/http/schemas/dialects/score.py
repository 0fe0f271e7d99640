"""`POST /score` in vLLM's dialect: one score for each pair, independent of the others."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.service.http.schemas.base import (
    Language,
    Priority,
    Question,
    Response,
    Text,
    TimedRequest,
    new_uuid,
    unix_seconds,
)
from tamis.service.http.schemas.dialects.jina import JinaUsage

_NAME_PAIRS = (
    ("text_1", "text_2"),
    ("queries", "documents"),
    ("queries", "items"),
    ("data_1", "data_2"),
)
OneOrMoreQuestions = Question | Annotated[list[Question], Field(fail_fast=True, min_length=1)]
OneOrMoreTexts = Text | Annotated[list[Text], Field(fail_fast=True, min_length=1)]


class ScoreRequest(TimedRequest):
    """One question with many texts, or as many questions as texts."""

    model: Text | None = None
    text_1: OneOrMoreQuestions | None = None
    text_2: OneOrMoreTexts | None = None
    queries: OneOrMoreQuestions | None = None
    documents: OneOrMoreTexts | None = None
    items: OneOrMoreTexts | None = None
    data_1: OneOrMoreQuestions | None = None
    data_2: OneOrMoreTexts | None = None
    instruction: Text | None = None
    language: Language = AUTO
    priority: Priority = 0

    def sides(self) -> tuple[list[str], list[str]]:
        """The questions, and the texts.

        Raises:
            BadInput: none or several of the four pairs of names, or sides whose lengths differ.
        """
        given = [
            pair for pair in _NAME_PAIRS if all(getattr(self, name) is not None for name in pair)
        ]
        if len(given) != 1:
            raise BadInput(
                "give one pair of text_1 and text_2, queries and documents, queries and items, "
                f"data_1 and data_2; {len(given)} were given"
            )
        left, right = (_as_list(getattr(self, name)) for name in given[0])
        if len(left) not in (1, len(right)):
            raise BadInput(
                f"{given[0][0]} has {len(left)} entries and {given[0][1]} {len(right)}; "
                "give one question, or one for each text"
            )
        return left, right


class ScoreItem(Response):
    """The score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreAnswer(Response):
    """One score for each pair, in order."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreItem]
    usage: JinaUsage


def score_answer(scores: list[float], tokens: int, model: str) -> ScoreAnswer:
    """The answer in vLLM's dialect; scores in [0, 1]."""
    data = [ScoreItem(index=i, score=score) for i, score in enumerate(scores)]
    usage = JinaUsage(prompt_tokens=tokens, total_tokens=tokens)
    return ScoreAnswer(
        id=f"score-{new_uuid()}", created=unix_seconds(), model=model, data=data, usage=usage
    )


def _as_list(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given
