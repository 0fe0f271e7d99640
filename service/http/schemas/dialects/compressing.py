"""Dialects that compress: The Token Company's, and a remote model of OpenSearch's highlighter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import LenientRequest, Question, Response, Text, TimedRequest
from tamis.service.http.schemas.compress import Compression, CompressRequest, Document
from tamis.service.http.schemas.dialects.base import Arrival, CompressCall, Dialect

_OPEN, _CLOSE = "<ttc_safe>", "</ttc_safe>"


class CompressionSettings(LenientRequest):
    """How much to leave out: 0.2 leaves out a fifth of the tokens."""

    aggressiveness: Annotated[float, Field(ge=0, lt=1)] = 0.2


class InputRequest(TimedRequest):
    """One text; text between `<ttc_safe>` and `</ttc_safe>` is kept, the tags are removed."""

    input: Text
    query: Question | None = None
    model: Text | None = None
    compression_settings: CompressionSettings = CompressionSettings()

    def to_call(self, _: Arrival) -> CompressCall:
        """The same request in our own dialect.

        Raises:
            BadInput: there is no question.
        """
        if self.query is None:
            raise BadInput(
                "tamis keeps what answers a question, and input came without one; add query"
            )
        text, kept = _strip_safe_tags(self.input)
        request = CompressRequest(
            model=self.model,
            question=self.query,
            history=[],
            documents=[Document(text=text, keep=[list(span) for span in kept])],
            ratio=1 - self.compression_settings.aggressiveness,
            timeout_ms=self.timeout_ms,
        )
        return CompressCall([request])


class InputAnswer(Response):
    """The compressed text."""

    output: Text
    output_tokens: int
    original_input_tokens: int


def input_answer(_: InputRequest, found: Sequence[Compression], __: Arrival) -> InputAnswer:
    """A compression in this dialect."""
    (one,) = found
    return InputAnswer(
        output=one.text or "",
        output_tokens=one.usage.output_tokens,
        original_input_tokens=one.usage.input_tokens,
    )


def _strip_safe_tags(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without its tags, and the spans that were between them; an open tag stays as it is.

    Linear in the text: nothing is searched for twice.
    """
    parts, spans, length, last = [], [], 0, 0
    while (start := text.find(_OPEN, last)) >= 0:
        inner = start + len(_OPEN)
        if (stop := text.find(_CLOSE, inner)) < 0:
            break
        before, safe = text[last:start], text[inner:stop]
        parts += [before, safe]
        length += len(before)
        if safe.strip():
            spans.append((length, length + len(safe)))
        length += len(safe)
        last = stop + len(_CLOSE)
    return "".join([*parts, text[last:]]), spans


TOKEN_COMPANY = Dialect(
    name="The Token Company",
    request=InputRequest,
    answer=InputAnswer,
    to_answer=input_answer,
    key="input",
    claims=lambda body: "documents" not in body and body.get("messages") is None,
    keeps=lambda _: True,
)


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
            question=pair.question,
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
    name="OpenSearch", request=HighlightRequest, answer=Highlights, to_answer=highlight_answer
)
