"""`POST /v1/compress`: the request and the answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    create_model,
)

from tamis.compressors.options import options_of
from tamis.compressors.pipeline.compression import AdaptiveLimits, Request, per_passage
from tamis.compressors.rules import (
    BUDGETS,
    NUMBERS,
    URLS,
    Budget,
    Rules,
    budget_of,
    check_together,
    rules_from,
    rules_in,
)
from tamis.compressors.selection.rendering import render_whole
from tamis.compressors.types import Compressed, Scores, Verdict, token_usage
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.option_fields import option_fields
from tamis.service.engine.request import QueuedRequest
from tamis.service.files.document_text import read_html
from tamis.service.http.runtime.errors import ErrorDetail, first_validation_error
from tamis.service.http.schemas.base import (
    MOST_MS,
    NOT_LOGGED,
    NOTHING_RANDOM,
    Language,
    OffsetConverter,
    OffsetUnit,
    Question,
    Response,
    ShortText,
    StrictRequest,
    Text,
    new_id,
    unix_seconds,
    with_example,
)
from tamis.service.http.schemas.patterns import BoundedPattern, SearchTime
from tamis.text.inputs import question_text
from tamis.text.language import AUTO
from tamis.text.types import Passage

OnError = Literal["fail", "passthrough"]
Position = Annotated[int, Field(ge=0, le=2**53)]
OptionValue = bool | int | float | Text | dict[Text, float] | None
KeepSpan = Annotated[list[Position], Field(min_length=2, max_length=2)]


class Document(StrictRequest):
    """A document with its metadata; `keep` and `min_tokens` guarantee that text of it is kept."""

    id: Text | None = None
    text: Text
    format: Annotated[
        Literal["text", "html"],
        Field(
            description="`html` reads what the page shows; spans, those of `keep` too, are into "
            "that, which the answer has as `extracted_text`."
        ),
    ] = "text"
    title: Text | None = None
    metadata: dict[str, Any] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31)] = 0
    keep: Annotated[list[KeepSpan], Field(fail_fast=True, default_factory=list)]


class Protect(StrictRequest):
    """Patterns whose matching sentences are kept whatever their score."""

    regex: Annotated[list[Text], Field(max_length=32, default_factory=list)]
    numbers: bool = False
    urls: bool = False


def patterns_of(protect: Protect | None, search_time: SearchTime) -> tuple[BoundedPattern, ...]:
    """All of them, compiled.

    Raises:
        BadInput: one is no regular expression, or too large.
    """
    if protect is None:
        return ()
    given = [*protect.regex, *[NUMBERS] * protect.numbers, *[URLS] * protect.urls]
    return tuple(BoundedPattern(pattern, search_time) for pattern in given)


class AdaptiveBudget(StrictRequest):
    """A budget set by the scores, within two bounds: input tokens for each output token."""

    min_ratio: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] = 1.5
    max_ratio: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] = 10.0


class Return(StrictRequest):
    """The parts of the answer to return."""

    spans: bool = True
    units: Literal["kept", "all", "none"] = "none"
    documents: bool = True
    text: bool = True


if TYPE_CHECKING:

    class OptionFields(StrictRequest):
        """A field for each budget and rule; see `compressors.rules`."""

        max_tokens: int | None = None
        ratio: float | None = None
        threshold: float | None = None
        coverage: float | None = None
else:
    OptionFields = create_model(
        "OptionFields",
        __base__=StrictRequest,
        **option_fields(options_of(Budget), described=False),
        **option_fields(rules_in("http"), ShortText),
    )


class CompressRequest(OptionFields):
    """What to compress, for which question, and to how much.

    Give a limit (`max_tokens` or `ratio`), a floor (`threshold` or `coverage`), one of each, or
    `adaptive`; without any, 500 tokens are kept.
    """

    model_config = with_example(
        question="How are keys rotated?",
        documents=["Keys are rotated every 90 days. Rooms are painted in spring."],
        max_tokens=10,
    )

    model: Text | None = None
    method: Text | None = None
    options: dict[Text, OptionValue] = Field(
        default_factory=dict,
        description='Of the method, as {"use_encoder": false}; `tamis methods NAME` lists them. '
        "None that names a file or an address: these are the service's.",
        max_length=32,
    )
    question: Question | None = None
    questions: Annotated[list[Question], Field(fail_fast=True, min_length=1)] | None = None
    instruction: Text | None = None
    history: Annotated[list[Text], Field(max_length=64, default_factory=list)]
    documents: Annotated[list[Text | Document], Field(fail_fast=True)]
    adaptive: AdaptiveBudget | None = None
    tokenizer: Text = "proxy"
    language: Language = AUTO
    protect: Protect | None = None
    return_: Annotated[Return, Field(alias="return")] = Return()
    offset_unit: OffsetUnit = "codepoint"
    on_error: OnError = "fail"
    timeout_ms: Annotated[int, Field(ge=1, le=MOST_MS)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] = 0
    shadow: Annotated[
        bool,
        Field(
            description="Give the documents back whole; spans, kept and usage say what would be."
        ),
    ] = False
    seed: Annotated[
        int | None,
        Field(description="Not used: the same request has the same answer."),
        NOTHING_RANDOM,
    ] = None
    user: Annotated[Text | None, Field(description="Not used, and not logged."), NOT_LOGGED] = None

    @classmethod
    def _hint_for(cls, name: str) -> str:
        if name == "lossless":
            return "it is for what tools returned: send messages, not documents"
        return super()._hint_for(name)

    def all_questions(self) -> list[str]:
        """The request's questions, one or several.

        Raises:
            BadInput: neither `question` nor `questions`, or both.
        """
        if (self.question is None) == (self.questions is None):
            raise BadInput("give question, or questions for many about the same documents")
        return [self.question] if self.question is not None else list(self.questions or ())

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [d if isinstance(d, str) else d.text for d in self.documents]

    def html_documents(self) -> frozenset[int]:
        """The places of the documents that are pages."""
        return frozenset(
            index
            for index, document in enumerate(self.documents)
            if isinstance(document, Document) and document.format == "html"
        )

    def with_extracted_texts(self) -> Self:
        """The request with what its pages show in place of their source.

        Raises:
            BadInput: a page that is nested deeper than any page for people.
        """
        return self.model_copy(
            update={"documents": list(map(_with_extracted_text, self.documents))}
        )

    def character_count(self) -> int:
        """Characters of everything that is counted: texts, and what is written around each."""
        rules = self.rules()
        cited = rules.citations or ""
        size = (len(rules.separator) + len(cited)) * len(self.documents)
        size += sum(map(len, self.texts()))
        for of in self.documents:
            if isinstance(of, Document):
                size += len(of.title or "") * rules.titles + len(of.id or "") * cited.count("{id}")
        return size

    def full_question(self, question: str) -> str:
        """A question with its instruction and history, in one text."""
        return question_text(question, self.instruction, self.history)

    def budget(self) -> Budget | AdaptiveLimits:
        """The budget.

        Raises:
            BadInput: budgets were given that cannot be combined.
        """
        given = {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}
        check_together(list(given))
        if self.adaptive is None:
            return budget_of(**given)
        if given:
            raise BadInput(
                f"adaptive and {' and '.join(given)} cannot be met together; give one of them"
            )
        return AdaptiveLimits(self.adaptive.min_ratio, self.adaptive.max_ratio)

    def compression(
        self, question: str, language: str, search_time: SearchTime, always_score: bool = False
    ) -> Request:
        """What to compress.

        Args:
            question: one of the questions, with its instruction and history.
            language: of the documents.
            search_time: what is left of it for patterns.
            always_score: whether units are scored although everything fits.

        Raises:
            BadInput: a budget, a rule, a span or a pattern that cannot be followed.
        """
        return Request(
            question,
            self.passages(),
            self.budget(),
            replace(self.rules(), protect=patterns_of(self.protect, search_time)),
            language,
            always_score=always_score,
        )

    def rules(self) -> Rules:
        """How units are chosen and shown.

        Raises:
            BadInput: a rule that cannot be followed.
        """
        return rules_from(self, "http")

    def passages(self) -> list[Passage]:
        """The documents, with the spans that must be kept of each in code points.

        Raises:
            BadInput: a span that cannot be followed.
        """
        return [_passage(of, index, self.offset_unit) for index, of in enumerate(self.documents)]


@dataclass(frozen=True, slots=True)
class InvalidInput:
    """An input of a batch that is no request: why, and the path of its field."""

    error: Exception
    param: str | None


def _keep_fault(
    given: Any, validate: ValidatorFunctionWrapHandler
) -> CompressRequest | InvalidInput:
    try:
        found: CompressRequest = validate(given)
        return found
    except ValidationError as error:
        return InvalidInput(*first_validation_error(error.errors()))


class CompressBatch(StrictRequest):
    """Many requests in one; each has an answer or an error of its own."""

    inputs: list[Annotated[CompressRequest, WrapValidator(_keep_fault)]]
    """Those that are no requests are `InvalidInput`, which the service's document does not have."""


def _with_extracted_text(given: str | Document) -> str | Document:
    if isinstance(given, str) or given.format == "text":
        return given
    page = read_html(given.text)
    return given.model_copy(update={"text": page.text, "title": given.title or page.title})


def _passage(given: str | Document, index: int, unit: OffsetUnit) -> Passage:
    if isinstance(given, str):
        return Passage(given)
    converter = OffsetConverter(given.text, unit)
    try:
        kept = tuple(
            (converter.to_codepoints(start), converter.to_codepoints(stop))
            for start, stop in given.keep
        )
    except BadInput as error:
        raise BadInput(f"passage {index}: keep cannot be read: {error}") from error
    metadata = given.metadata or {}
    return Passage(given.text, given.id, given.title, metadata, kept, given.min_tokens)


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

    `evidence_score` is the probability of its best sentence, not to be compared with the
    `relevance_score` of a ranking, which scores whole documents; `raw_score` is the method's own
    score of that sentence. Both are null where nothing was scored; a document without a sentence
    has 0 and null.
    """

    index: int
    id: Text | None
    evidence_score: float | None
    raw_score: float | None = None
    kept: bool
    text: Text | None = None
    extracted_text: Text | None = None
    relevant_spans: list[SpanScore] | None = None
    units: list[UnitScore] | None = None
    tokens_before: int
    tokens_after: int


class Counts(Response):
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
    verdict: Verdict | None = None
    reason: Text = ""
    counts: Counts
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


@dataclass(frozen=True)
class CompressionBuilder:
    """Builds one answer.

    Attributes:
        scores: that the result was made with; None where nothing was scored.
        unit: of the offsets.
        card: the name and the revision of the model.
        extracted: the places of the documents that are pages.
        parts: of the answer that are wanted.
        shadow: whether its text is the input unchanged.
    """

    result: Compressed
    scores: Scores | None
    rules: Rules
    counter: TextTokenizer
    unit: OffsetUnit
    card: tuple[str, str]
    extracted: Collection[int]
    parts: Return
    shadow: bool

    def build(self, queued: QueuedRequest) -> Compression:
        """The answer with the wanted parts."""
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
            calibrated=self._is_calibrated,
            text=self._text() if self.parts.text else None,
            results=self._documents() if self.parts.documents else None,
            answerability=result.answerability,
            verdict=result.verdict,
            reason=result.reason,
            counts=Counts(
                windows=result.windows,
                tokens_scored=result.tokens_read,
                units=units_in,
                units_scored=read if result.scores else 0,
            ),
            usage=Usage(**token_usage(result)),
            timings=_timings(result, queued),
            status="shadow" if self.shadow else "partial" if late else result.status,
            warnings=warnings,
        )

    @property
    def _is_calibrated(self) -> bool:
        return self.scores is not None and self.scores.calibrated

    @cached_property
    def _converters(self) -> list[OffsetConverter]:
        """One converts each document's offsets; there is none where offsets are code points."""
        passages = () if self.unit == "codepoint" else self.result.passages
        return [OffsetConverter(passage.text, self.unit) for passage in passages]

    def _text(self) -> str:
        """The kept text; with `shadow`, the whole input."""
        if not self.shadow:
            return self.result.text
        return render_whole(self.result.passages, self.result.units, self.rules)

    def _documents(self) -> list[DocumentResult]:
        tokens = self._count_unit_tokens() if self.parts.units == "all" else None
        return [
            DocumentResult(
                index=source.index,
                id=source.passage.id,
                evidence_score=source.evidence(self._is_calibrated),
                raw_score=source.raw_score,
                kept=bool(source.kept),
                text=(source.passage.text if self.shadow else source.text)
                if self.parts.text
                else None,
                extracted_text=source.passage.text if source.index in self.extracted else None,
                relevant_spans=[self._span(u) for u in source.kept] if self.parts.spans else None,
                units=None
                if self.parts.units == "none"
                else [
                    self._unit(u, kept, tokens)
                    for u in (source.kept if self.parts.units == "kept" else source.units)
                ],
                tokens_before=source.tokens_before,
                tokens_after=source.tokens_after,
            )
            for source in per_passage(self.result, self.rules, self.counter)
            for kept in (set(source.kept),)
        ]

    def _visible_span(self, u: int) -> tuple[int, int]:
        start, stop = self.result.units[u].visible
        return self._position(u, start), self._position(u, stop)

    def _position(self, u: int, codepoint: int) -> int:
        """A place in the text of a unit's document, in the unit of offsets that was asked for."""
        if not self._converters:
            return codepoint
        return self._converters[self.result.units[u].passage].from_codepoints(codepoint)

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
