"""`POST /v1/expand`: what was left out around a span, from the documents as they were.

The service keeps no text, so that the documents come again; the spans are those of an answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO, spoken
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.service.http.schemas.base import StrictRequest, Language, Question, Text, Response
from tamis.service.http.schemas.compress import Document, Position
from tamis.service.http.schemas.offsets import OffsetConverter
from tamis.service.http.schemas.offsets import OffsetUnit as OffsetUnit


class Span(StrictRequest):
    """`documents[index][start:end]`."""

    index: Position
    start: Position
    end: Position
    score: Annotated[
        float | None, Field(description="Not used: a span may come as it was told.")
    ] = None


class ExpandRequest(StrictRequest):
    """Which spans to grow, and by how many sentences on both sides."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": ["Rooms are blue. Keys are rotated. Ada does it."],
                    "spans": [{"index": 0, "start": 16, "end": 33}],
                    "neighbours": 1,
                }
            ]
        }
    )

    documents: list[Text | Document]
    spans: Annotated[list[Span], Field(min_length=1)]
    neighbours: Annotated[int, Field(ge=0, le=1000)] = 1
    query: Annotated[
        Question | None,
        Field(description="That of the compression: it helps to tell the language under auto."),
    ] = None
    language: Language = AUTO
    offset_unit: OffsetUnit = "codepoint"

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [d if isinstance(d, str) else d.text for d in self.documents]


class Expanded(Response):
    """A span that was grown: `text` is `documents[index][start:end]`."""

    index: int
    start: int
    end: int
    text: Text


class Expansion(Response):
    """One result a span, in order."""

    object: Literal["expansion"] = "expansion"
    results: list[Expanded]


def expand_spans(request: ExpandRequest) -> Expansion:
    """The spans, each grown as `Compressed.expand` grows them.

    Raises:
        BadInput: a span that touches no sentence, or of a document that is not there.
    """
    return Expansion(results=list(_expanded_spans(request)))


def _expanded_spans(request: ExpandRequest) -> Iterator[Expanded]:
    texts = request.texts()
    passages = tuple(map(Passage, texts))
    units: dict[int, list[Unit]] = {}
    for unit in units_of(passages, spoken(request.language, request.query or "", texts)):
        units.setdefault(unit.passage, []).append(unit)
    converters: dict[int, OffsetConverter] = {}
    for span in request.spans:
        if span.index >= len(texts):
            raise BadInput(f"a span is of document {span.index}; there are {len(texts)}, from 0 on")
        text = texts[span.index]
        if span.index not in converters:
            converters[span.index] = OffsetConverter(text, request.offset_unit)
        converter = converters[span.index]
        own = _result_with_units(passages, tuple(units.get(span.index, ())))
        given = converter.to_codepoints(span.start), converter.to_codepoints(span.end)
        start, end = own.expand(span.index, *given, request.neighbours)
        shown = converter.from_codepoints(start), converter.from_codepoints(end)
        yield Expanded(index=span.index, start=shown[0], end=shown[1], text=text[start:end])


def _result_with_units(passages: tuple[Passage, ...], units: tuple[Unit, ...]) -> Compressed:
    """Documents of which nothing is known but their sentences."""
    return Compressed("", (), passages, units, (), (), 0, 0, "", "", "passthrough")
