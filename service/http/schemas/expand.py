"""`POST /v1/expand`: text that was left out around a span, from the original documents.

The service keeps no text, so the request has the documents again; the spans are those of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput
from tamis.service.files.document_text import read_html
from tamis.service.http.schemas.base import (
    MOST_MS,
    Language,
    NoEffect,
    OffsetConverter,
    OffsetUnit,
    Question,
    Response,
    StrictRequest,
    Text,
    with_example,
)
from tamis.service.http.schemas.compress import Document, Position
from tamis.text.language import AUTO, resolve_language
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of


class Span(StrictRequest):
    """`documents[index][start:end]`."""

    index: Position
    start: Position
    end: Position
    score: Annotated[
        float | None,
        Field(description="Not used: a span may be sent as it was returned."),
        NoEffect("a span may be sent as it was returned", False),
    ] = None

    @model_validator(mode="after")
    def _check_order(self) -> Span:
        if self.end < self.start:
            raise ValueError(f"the span ends at {self.end}, before its start at {self.start}")
        return self


class ExpandRequest(StrictRequest):
    """The spans to grow, and by how many sentences on each side."""

    model_config = with_example(
        documents=["Rooms are blue. Keys are rotated. Ada does it."],
        spans=[{"index": 0, "start": 16, "end": 33}],
        neighbours=1,
    )

    documents: Annotated[list[Text | Document], Field(fail_fast=True)]
    spans: Annotated[list[Span], Field(fail_fast=True, min_length=1)]
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 1
    question: Annotated[
        Question | None,
        Field(description="That of the compression: it helps to tell the language under auto."),
    ] = None
    language: Language = AUTO
    offset_unit: OffsetUnit = "codepoint"
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None

    def character_counts(self) -> list[int]:
        """Counts the documents' characters, as they were sent."""
        return [len(d) if isinstance(d, str) else len(d.text) for d in self.documents]

    def texts(self) -> list[str]:
        """The documents' texts; of pages, what they show."""
        return [d if isinstance(d, str) else _text_of(d) for d in self.documents]


def _text_of(document: Document) -> str:
    return read_html(document.text).text if document.format == "html" else document.text


class Expanded(Response):
    """A grown span: `text` is `documents[index][start:end]`."""

    index: int
    start: int
    end: int
    text: Text


class Expansion(Response):
    """One result for each span, in order."""

    object: Literal["expansion"] = "expansion"
    results: list[Expanded]


def expanded_spans(request: ExpandRequest) -> Iterator[Expanded]:
    """The spans, each grown by `Compressed.expand`.

    Raises:
        BadInput: a span that touches no sentence, or whose document does not exist.
    """
    texts = request.texts()
    passages = tuple(map(Passage, texts))
    units: dict[int, list[Unit]] = {}
    for unit in units_of(
        passages, resolve_language(request.language, request.question or "", texts)
    ):
        units.setdefault(unit.passage, []).append(unit)
    converters: dict[int, OffsetConverter] = {}
    for span in request.spans:
        if span.index >= len(texts):
            raise BadInput(f"a span is of document {span.index}; there are {len(texts)}, from 0 on")
        text = texts[span.index]
        if span.index not in converters:
            converters[span.index] = OffsetConverter(text, request.offset_unit)
        converter = converters[span.index]
        here = tuple(units.get(span.index, ()))  # only for its `expand`
        own = Compressed("", (), passages, here, (), (), 0, 0, "", "", "passthrough")
        given = converter.to_codepoints(span.start), converter.to_codepoints(span.end)
        start, end = own.expand(span.index, *given, request.neighbours)
        offsets = converter.from_codepoints(start), converter.from_codepoints(end)
        yield Expanded(index=span.index, start=offsets[0], end=offsets[1], text=text[start:end])
