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
from tamis.service.http.schemas.dialects.base import Arrival, Dialect, Pairs, ScoreCall
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

    def to_call(self, _: Arrival) -> ScoreCall:
        """The questions with their texts.

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
        return ScoreCall(
            left,
            right,
            self.model,
            self.priority,
            self.instruction,
            self.timeout_ms,
            self.language,
        )


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


def score_answer(request: ScoreRequest, found: Pairs, arrival: Arrival) -> ScoreAnswer:
    """The answer in vLLM's dialect; scores in [0, 1]."""
    return ScoreAnswer(
        id=f"score-{new_uuid()}",
        created=unix_seconds(),
        model=arrival.answered_model(request.model),
        data=[ScoreItem(index=i, score=score) for i, score in enumerate(found.probabilities())],
        usage=JinaUsage(prompt_tokens=found.tokens_read, total_tokens=found.tokens_read),
    )


def _as_list(given: str | list[str]) -> list[str]:
    return [given] if isinstance(given, str) else given


VLLM_SCORE = Dialect(
    name="vLLM",
    request=ScoreRequest,
    answer=ScoreAnswer,
    to_call=ScoreRequest.to_call,
    to_answer=score_answer,
)
