"""`POST /v1/highlight`: a remote model of OpenSearch's semantic highlighter (neural-search).

Offsets are in UTF-16 code units, half-open: OpenSearch cuts Java strings with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import Question, Response, Text, TimedRequest
from tamis.service.http.schemas.compress import Compression, CompressRequest
from tamis.service.http.schemas.dialects.base import Arrival, CompressCall, Dialect

THRESHOLD = 0.5


class HighlightInput(TimedRequest):
    """A question, and the text in which to highlight what answers it."""

    question: Question
    context: Text


class HighlightRequest(TimedRequest):
    """One question and one context, or many pairs in `inputs`."""

    question: Question | None = None
    context: Text | None = None
    inputs: Annotated[list[HighlightInput], Field(fail_fast=True, min_length=1)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] = THRESHOLD
    model: Text | None = None

    def pairs(self) -> list[HighlightInput]:
        """The questions with their contexts.

        Raises:
            BadInput: neither a question with a context nor inputs, or both.
        """
        single = self.question is not None and self.context is not None
        if single == (self.inputs is not None) or (self.question is None) != (self.context is None):
            raise BadInput("give question and context, or inputs, a list of such pairs")
        if self.inputs is not None:
            return self.inputs
        return [HighlightInput(question=str(self.question), context=str(self.context))]

    def to_call(self, _: Arrival) -> CompressCall:
        """A compression for each pair.

        Raises:
            BadInput: see `pairs`.
        """
        return CompressCall([self._compress_request(pair) for pair in self.pairs()])

    def _compress_request(self, pair: HighlightInput) -> CompressRequest:
        return CompressRequest(
            query=pair.question,
            documents=[pair.context],
            threshold=self.threshold,
            model=self.model,
            history=[],
            offset_unit="utf16",
            timeout_ms=pair.timeout_ms or self.timeout_ms,
        )


class Highlight(Response):
    """A sentence that answers: `context[start:end]` in UTF-16 code units."""

    start: int
    end: int


class Highlights(Response):
    """The sentences of a context that answer, in their order; a list for each of many inputs."""

    highlights: list[Highlight] | list[list[Highlight]]


def highlight_answer(
    request: HighlightRequest, found: Sequence[Compression], _: Arrival
) -> Highlights:
    """What was kept of each context."""
    lists = [_highlights_of(one) for one in found]
    return Highlights(highlights=lists[0] if request.inputs is None else lists)


def _highlights_of(found: Compression) -> list[Highlight]:
    return [
        Highlight(start=span.start, end=span.end)
        for result in found.results or ()
        for span in result.relevant_spans or ()
    ]


OPENSEARCH = Dialect(
    name="OpenSearch",
    request=HighlightRequest,
    answer=Highlights,
    to_call=HighlightRequest.to_call,
    to_answer=highlight_answer,
)
