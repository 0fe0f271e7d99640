"""`POST /v1/compress`: the request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, create_model

from tamis.compressors.inputs import question_text
from tamis.compressors.pipeline.compression import AdaptiveLimits, Request
from tamis.compressors.rules import (
    BUDGETS,
    MAX_TOKENS,
    NUMBERS,
    URLS,
    Budget,
    Rules,
    check_together,
    rules_from,
)
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage
from tamis.service.api.rule_fields import rule_fields
from tamis.service.documents.document_text import read_html
from tamis.service.http.schemas.base import (
    MOST_MS,
    Language,
    Question,
    ShortText,
    StrictRequest,
    Text,
)
from tamis.service.http.schemas.offsets import OffsetConverter, OffsetUnit
from tamis.service.http.schemas.patterns import compile_pattern, match_spans

OnError = Literal["fail", "passthrough"]
Position = Annotated[int, Field(ge=0, le=2**53)]
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

    def patterns(self) -> list[str]:
        """All of them as regular expressions."""
        return [*self.regex, *[NUMBERS] * self.numbers, *[URLS] * self.urls]


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

    class RuleFields(StrictRequest):
        """A field a rule; see `compressors.rules`."""
else:
    RuleFields = create_model(
        "RuleFields", __base__=StrictRequest, **rule_fields("http", text=ShortText)
    )


class CompressRequest(RuleFields):
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
    queries: Annotated[list[Question], Field(fail_fast=True, min_length=1)] | None = None
    instruction: Text | None = None
    history: Annotated[list[Text], Field(max_length=64, default_factory=list)]
    documents: Annotated[list[Text | Document], Field(fail_fast=True)]
    max_tokens: Annotated[int, Field(ge=1, le=2**31)] | None = None
    ratio: Annotated[float, Field(gt=0, le=1)] | None = None
    threshold: Annotated[float, Field(ge=0, le=1)] | None = None
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = None
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
        int | None, Field(description="Not used: the same request has the same answer.")
    ] = None
    user: Annotated[Text | None, Field(description="Not used, and not logged.")] = None

    def questions(self) -> list[str]:
        """The request's questions, one or several.

        Raises:
            BadInput: neither `query` nor `queries`, or both.
        """
        if (self.query is None) == (self.queries is None):
            raise BadInput("give query, or queries for many questions on the same documents")
        return [self.query] if self.query is not None else list(self.queries or ())

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

    def compression(self, question: str, language: str, always_score: bool = False) -> Request:
        """What to compress.

        Args:
            question: one of the questions, with its instruction and history.
            language: of the documents.
            always_score: whether units are scored although everything fits.

        Raises:
            BadInput: a budget, a rule, a span or a pattern that cannot be followed.
        """
        return Request(
            question,
            self.passages(),
            self.budget(),
            self.rules(),
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
        """The documents; what must be kept of each, by span or pattern, as spans.

        Raises:
            BadInput: a span or a pattern that cannot be followed.
        """
        patterns = [compile_pattern(p) for p in (self.protect.patterns() if self.protect else [])]
        return [_passage(document, patterns, self.offset_unit) for document in self.documents]


class CompressBatch(StrictRequest):
    """Many requests in one; each has an answer or an error of its own."""

    inputs: Annotated[list[CompressRequest], Field(fail_fast=True)]


def _with_extracted_text(given: str | Document) -> str | Document:
    if isinstance(given, str) or given.format == "text":
        return given
    page = read_html(given.text)
    return given.model_copy(update={"text": page.text, "title": given.title or page.title})


def _passage(given: str | Document, patterns: list[Any], unit: OffsetUnit) -> Passage:
    text = given if isinstance(given, str) else given.text
    matched = tuple(span for pattern in patterns for span in match_spans(pattern, text))
    if isinstance(given, str):
        return Passage(text, keep=matched)
    converter = OffsetConverter(text, unit)
    kept = tuple(
        (converter.to_codepoints(start), converter.to_codepoints(stop))
        for start, stop in given.keep
    )
    metadata = given.metadata or {}
    return Passage(text, given.id, given.title, metadata, (*kept, *matched), given.min_tokens)
