"""`POST /v1/compress` and `/v1/explain`: the answer."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

from tamis.compressors.pipeline.compression import PassageResult, per_passage
from tamis.compressors.rules import Rules
from tamis.compressors.selection.rendering import render_whole
from tamis.compressors.types import Compressed, Scores
from tamis.probes.tokens import TextTokenizer
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.schemas.base import Response, Text, new_id, to_probability, unix_seconds
from tamis.service.http.schemas.errors import ErrorDetail
from tamis.service.http.schemas.offsets import OffsetConverter, OffsetUnit

Status = Literal["ok", "passthrough", "partial", "unanswerable", "shadow"]


class SpanScore(Response):
    """A kept span: `document[start:end]`."""

    start: int
    end: int
    score: float | None


class UnitScore(Response):
    """One unit (sentence, table row, code block): its span, score and tokens.

    `next` is where the white space after it ends and the next unit of its document begins.
    """

    index: int
    start: int
    end: int
    next: int
    kind: str
    score: float | None
    kept: bool
    tokens: int | None = None


class DocumentResult(Response):
    """The result for one document; `text` is what was kept of it, verbatim.

    Spans are into the document's text; of a document of the format `html`, into `extracted_text`.

    `relevance_score` is the score of its best sentence, in [0, 1] for every method; `raw_score` is
    the method's own score of it. Both are null where nothing was scored; a document without a
    sentence has 0 and null.
    """

    index: int
    id: Text | None
    relevance_score: float | None
    raw_score: float | None = None
    kept: bool
    text: Text | None = None
    extracted_text: Text | None = None
    relevant_spans: list[SpanScore] | None = None
    units: list[UnitScore] | None = None
    tokens_before: int
    tokens_after: int


class Coverage(Response):
    """How much was read to the end.

    `units_scored` is below `units` where the time did not suffice, and where passages were left out
    that cannot matter: by their words, or after the first layers.
    """

    windows: int
    tokens_scored: int
    units: int
    units_scored: int
    truncated: bool = False


class Usage(Response):
    """Tokens, counted by the tokenizer of the budget."""

    input_tokens: int
    output_tokens: int
    saved_tokens: int
    ratio: float
    cached_tokens: int
    tokenizer: Text
    estimated: bool = False


class Timings(Response):
    """Where the time went, in milliseconds."""

    queue_ms: float
    tokenize_ms: float
    score_ms: float
    select_ms: float
    total_ms: float


class Compression(Response):
    """The compressed context, the source of each part, and the cost."""

    id: str
    object: Literal["compression"] = "compression"
    created: int
    model: str
    model_revision: str
    method: str
    calibrated: bool
    text: Text | None
    results: list[DocumentResult] | None
    answerability: float | None
    coverage: Coverage
    usage: Usage
    timings: Timings
    status: Status
    warnings: list[Text]


class CompressionList(Response):
    """One compression for each question, in order."""

    object: Literal["list"] = "list"
    data: list[Compression]


class BatchItem(Response):
    """One input of a batch: its compression or its error."""

    index: int
    compression: Compression | None = None
    error: ErrorDetail | None = None


class BatchResult(Response):
    """One item for each input, in order."""

    object: Literal["list"] = "list"
    data: list[BatchItem]


class CompressionBuilder:
    """Builds one answer.

    Args:
        scores: that the result was made with; None where nothing was scored.
        unit: of the offsets.
        card: the name and the revision of the model.
        extracted: the places of the documents that are pages.
    """

    def __init__(
        self,
        result: Compressed,
        scores: Scores | None,
        rules: Rules,
        counter: TextTokenizer,
        unit: OffsetUnit,
        card: tuple[str, str],
        extracted: Collection[int] = (),
    ) -> None:
        self.result, self.scores, self.card, self.counter = result, scores, card, counter
        self.rules, self.extracted = rules, extracted
        self.calibrated = scores is not None and scores.calibrated
        self.passage_results = per_passage(self.result, rules, counter)
        passages = () if unit == "codepoint" else self.result.passages
        self.converters = [OffsetConverter(passage.text, unit) for passage in passages]

    def build(
        self,
        queued: QueuedRequest,
        spans: bool,
        units: str,
        documents: bool,
        text: bool,
        shadow: bool = False,
    ) -> Compression:
        """The answer with the requested parts; with `shadow`, its text is the input unchanged."""
        result, scores = self.result, self.scores
        units_in = len(result.units) if scores is None else len(scores.values)
        read = units_in if scores is None else scores.count_read
        late = scores is not None and scores.is_late and result.status == "ok"
        warnings = list(result.warnings)
        if late:
            warnings.append(
                f"{read} of {units_in} sentences were read in time; "
                "the others were placed by their words"
            )
        return Compression(
            id=new_id("cmp"),
            created=unix_seconds(),
            model=self.card[0],
            model_revision=self.card[1],
            method=result.method,
            calibrated=self.calibrated,
            text=self._text(shadow) if text else None,
            results=self._documents(spans, units, text, shadow) if documents else None,
            answerability=result.answerability,
            coverage=Coverage(
                windows=result.windows,
                tokens_scored=result.tokens_read,
                units=units_in,
                units_scored=read if result.scores else 0,
            ),
            usage=usage_of(result),
            timings=_timings(result, queued),
            status="shadow" if shadow else "partial" if late else result.status,
            warnings=warnings,
        )

    def _text(self, shadow: bool) -> str:
        """The kept text; with `shadow`, the whole input."""
        if not shadow:
            return self.result.text
        return render_whole(self.result.passages, self.result.units, self.rules)

    def _documents(self, spans: bool, units: str, text: bool, shadow: bool) -> list[DocumentResult]:
        tokens = self._count_unit_tokens() if units == "all" else None
        return [
            DocumentResult(
                index=source.index,
                id=source.passage.id,
                relevance_score=self._relevance(source),
                raw_score=_finite_or_none(source.score) if source.units else None,
                kept=bool(source.kept),
                text=(source.passage.text if shadow else source.text) if text else None,
                extracted_text=source.passage.text if source.index in self.extracted else None,
                relevant_spans=[self._span(u) for u in source.kept] if spans else None,
                units=None
                if units == "none"
                else [
                    self._unit(u, kept, tokens)
                    for u in (source.kept if units == "kept" else source.units)
                ],
                tokens_before=source.tokens_before,
                tokens_after=source.tokens_after,
            )
            for source, kept in ((source, set(source.kept)) for source in self.passage_results)
        ]

    def _relevance(self, source: PassageResult) -> float | None:
        if source.score is None:
            return None
        return to_probability(source.score, self.calibrated) if source.units else 0.0

    def _visible_span(self, u: int) -> tuple[int, int]:
        start, stop = self.result.units[u].visible
        return self._position(u, start), self._position(u, stop)

    def _position(self, u: int, codepoint: int) -> int:
        """A place in the text of a unit's document, in the unit of offsets that was asked for."""
        if not self.converters:  # code points, as they are
            return codepoint
        return self.converters[self.result.units[u].passage].from_codepoints(codepoint)

    def _span(self, u: int) -> SpanScore:
        start, end = self._visible_span(u)
        return SpanScore(start=start, end=end, score=self._score(u))

    def _score(self, u: int) -> float | None:
        return self.result.scores[u] if self.result.scores else None

    def _unit(self, u: int, kept: set[int], tokens: list[int] | None) -> UnitScore:
        start, end = self._visible_span(u)
        return UnitScore(
            index=u,
            start=start,
            end=end,
            next=self._position(u, self.result.units[u].stop),
            kind=self.result.units[u].kind,
            score=self._score(u),
            kept=u in kept,
            tokens=tokens[u] if tokens else None,
        )

    def _count_unit_tokens(self) -> list[int]:
        texts = [
            self.result.passages[unit.passage].text[slice(*unit.visible)]
            for unit in self.result.units
        ]
        return self.counter.count_many(texts)


def usage_of(result: Compressed) -> Usage:
    """Tokens read, returned and saved."""
    return Usage(
        input_tokens=result.tokens_in,
        output_tokens=result.tokens_out,
        saved_tokens=result.tokens_in - result.tokens_out,
        ratio=round(result.ratio, 4),
        cached_tokens=result.tokens_cached,
        tokenizer=result.tokenizer,
    )


def _timings(result: Compressed, queued: QueuedRequest) -> Timings:
    ms: Any = result.timings_ms
    read = ms.get("read", 0.0) - queued.queue_ms
    return Timings(
        queue_ms=round(queued.queue_ms, 3),
        tokenize_ms=round(ms.get("segment", 0.0) + ms.get("tokenize", 0.0), 3),
        score_ms=round(max(0.0, read) + ms.get("score", 0.0), 3),
        select_ms=round(ms.get("select", 0.0), 3),
        total_ms=round(ms.get("total", 0.0), 3),
    )


def _finite_or_none(score: float | None) -> float | None:
    return None if score is None or score in (float("inf"), float("-inf")) else score
