"""`POST /v1/compress`: what may be asked."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from tamis.compressors.checks import BUDGETS, check_together
from tamis.compressors.question import question_text
from tamis.compressors.types import MAX_TOKENS, Budget, Granularity, Rules, Unanswerable
from tamis.compressors.types import Order as Order
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage
from tamis.service.engine.deadline import AdaptiveLimits, CompressionJob
from tamis.service.http.schemas.base import StrictRequest, Language, Question, ShortText, Text
from tamis.service.http.schemas.offsets import OffsetConverter, OffsetUnit
from tamis.service.http.schemas.patterns import NUMBERS, URLS, compile_pattern, match_spans

OnError = Literal["fail", "passthrough"]
Position = Annotated[int, Field(ge=0, le=2**53)]
KeepSpan = Annotated[list[Position], Field(min_length=2, max_length=2)]


class Document(StrictRequest):
    """A document with what is known of it; `keep` and `min_tokens` are promises about its text."""

    id: Text | None = None
    text: Text
    title: Text | None = None
    metadata: dict[str, Any] | None = None
    min_tokens: Annotated[int, Field(ge=0, le=2**31)] = 0
    keep: Annotated[list[KeepSpan], Field(default_factory=list)]


class Protect(StrictRequest):
    """Sentences that stay whatever their score: those that match."""

    regex: Annotated[list[Text], Field(max_length=32, default_factory=list)]
    numbers: bool = False
    urls: bool = False

    def patterns(self) -> list[str]:
        """All of it as regular expressions."""
        return [*self.regex, *[NUMBERS] * self.numbers, *[URLS] * self.urls]


class AdaptiveBudget(StrictRequest):
    """So many tokens as the text deserves, within two bounds: tokens in for one token out."""

    min_ratio: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] = 1.5
    max_ratio: Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)] = 10.0


class Return(StrictRequest):
    """What the answer holds."""

    match_spans: bool = True
    units: Literal["kept", "all", "none"] = "none"
    documents: bool = True
    text: bool = True


class CompressRequest(StrictRequest):
    """What to compress, for which question, and to how much.

    Give a limit (`max_tokens` or `ratio`), a floor (`threshold` or `coverage`), one of each, or
    `adaptive`; without any, 500 tokens are kept.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "query": "How are keys rotated?",
                    "documents": ["Keys are rotated every 90 days. Rooms are painted in spring."],
                    "max_tokens": 10,
                }
            ]
        }
    )

    model: Text | None = None
    method: Text | None = None
    query: Question | None = None
    queries: Annotated[list[Question], Field(min_length=1)] | None = None
    instruction: Text | None = None
    history: Annotated[list[Text], Field(max_length=64, default_factory=list)]
    documents: list[Text | Document]
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = None
    adaptive: AdaptiveBudget | None = None
    tokenizer: Text = "proxy"
    granularity: Granularity = "sentence"
    language: Language = AUTO
    top_n: Annotated[int, Field(ge=1, le=2**31)] | None = None
    order: Order = "original"
    context_window: Annotated[int, Field(ge=0, le=1000)] = 0
    protect: Protect | None = None
    keep_tags: bool = False
    answerable_floor: Annotated[float, Field(ge=0, le=1)] = 0.0
    unanswerable: Unanswerable = "best_effort"
    dedup: Annotated[float, Field(gt=0, le=1)] | None = None
    elision: ShortText | None = None
    citations: ShortText | None = None
    titles: bool = False
    separator: ShortText = "\n\n"
    return_: Annotated[Return, Field(alias="return")] = Return()
    offset_unit: OffsetUnit = "codepoint"
    on_error: OnError = "fail"
    timeout_ms: Annotated[int, Field(ge=1, le=3_600_000)] | None = None
    priority: Annotated[int, Field(ge=0, le=999)] = 0
    shadow: Annotated[
        bool,
        Field(
            description="Give the documents back whole; spans, kept and usage say what would be."
        ),
    ] = False
    seed: Annotated[
        int | None, Field(description="Not used: the same request has the same answer.")
    ] = None
    user: Annotated[Text | None, Field(description="Not used, and not logged.")] = None

    def questions(self) -> list[str]:
        """The questions.

        Raises:
            BadInput: neither `query` nor `queries`, or both.
        """
        if (self.query is None) == (self.queries is None):
            raise BadInput("give query, or queries for many questions on the same documents")
        return [self.query] if self.query is not None else list(self.queries or ())

    def texts(self) -> list[str]:
        """The documents' texts."""
        return [d if isinstance(d, str) else d.text for d in self.documents]

    def character_count(self) -> int:
        """Of all that is shown and counted: texts, and what is written around each."""
        cited = self.citations or ""
        size = (len(self.separator) + len(cited)) * len(self.documents)
        size += sum(map(len, self.texts()))
        for of in self.documents:
            if isinstance(of, Document):
                size += len(of.title or "") * self.titles + len(of.id or "") * cited.count("{id}")
        return size

    def full_question(self, question: str) -> str:
        """A question with its instruction and history, in one text."""
        return question_text(question, self.instruction, self.history)

    def budget(self) -> Budget | AdaptiveLimits:
        """The budget.

        Raises:
            BadInput: some were given that cannot be met together.
        """
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        check_together(given)
        if self.adaptive is not None:
            if given:
                raise BadInput(
                    f"adaptive and {' and '.join(given)} cannot be met together; give one of them"
                )
            return AdaptiveLimits(self.adaptive.min_ratio, self.adaptive.max_ratio)
        most = self.max_tokens if given else MAX_TOKENS
        return Budget(most, self.ratio, self.threshold, self.coverage)

    def compression_job(self, question: str, always_score: bool = False) -> CompressionJob:
        """The order for one of the questions."""
        return CompressionJob(
            question=self.full_question(question),
            passages=self.passages(),
            budget=self.budget(),
            rules=Rules(
                context_window=self.context_window,
                dedup=self.dedup,
                order=self.order,
                separator=self.separator,
                elision=self.elision,
                citations=self.citations,
                titles=self.titles,
                top_n=self.top_n,
                keep_tags=self.keep_tags,
                answerable_floor=self.answerable_floor,
                unanswerable=self.unanswerable,
                granularity=self.granularity,
            ),
            language=self.language,
            always_score=always_score,
        )

    def passages(self) -> list[Passage]:
        """The documents; what must be kept of each, by span or pattern, as spans.

        Raises:
            BadInput: a span or a pattern that cannot be followed.
        """
        patterns = [compile_pattern(p) for p in (self.protect.patterns() if self.protect else [])]
        return [_passage(document, patterns, self.offset_unit) for document in self.documents]


class CompressBatch(StrictRequest):
    """Many requests in one; each has an answer or an error of its own."""

    inputs: list[CompressRequest]


def _passage(given: str | Document, patterns: list[Any], unit: OffsetUnit) -> Passage:
    text = given if isinstance(given, str) else given.text
    matched = tuple(span for pattern in patterns for span in match_spans(pattern, text))
    if isinstance(given, str):
        return Passage(text, keep=matched)
    converter = OffsetConverter(text, unit)
    kept = tuple((converter.to_codepoints(start), converter.to_codepoints(stop)) for start, stop in given.keep)
    metadata = given.metadata or {}
    return Passage(text, given.id, given.title, metadata, (*kept, *matched), given.min_tokens)
