"""What the adapters of other frameworks have in common: their fields, and one request.

pydantic comes with every framework that has an adapter; tamis alone does not need it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from tamis.compressors.registry import DEFAULT, method_info, method_names
from tamis.compressors.types import MAX_TOKENS, Budget, Granularity, Rules, Unanswerable
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage
from tamis.service.integrations.backend import (
    Backend,
    LocalBackend,
    KeptPassage,
    CompressionPlan,
    CompressedContext,
    is_backend_failure,
    to_shadow,
    pass_through,
)

logger = logging.getLogger("tamis")
CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)
"""A misspelt field is an error, not a default; no error shows what was given: it may be a key."""
OnError = Annotated[
    Literal["passthrough", "fail", "raise"],
    AfterValidator(lambda given: "fail" if given == "raise" else given),
]
"""In the words of `POST /v1/compress`; `raise` is another word for `fail`."""


class BackendFields(BaseModel):
    """Where the work is done and by which method.

    In this process, with `proxy`, `cache` and `options`; or by a tamis server, with `base_url`,
    `api_key` and `timeout_s`.
    """

    model_config = CONFIG

    method: str = Field(DEFAULT, description="how sentences are scored: see `tamis methods`")
    language: str = Field(AUTO, description="of the documents; auto looks at them")
    proxy: Any = Field(AUTO, description="a zoo name, a folder, a loaded Proxy; auto: by language")
    cache: Any = Field(None, description="a PassageCache: a document is read once, whoever asks")
    options: dict[str, Any] = Field({}, description="the method's own, such as probe")
    base_url: str | None = Field(None, description="of a tamis server; None is this process")
    api_key: SecretStr | None = Field(None, description="of the server")
    timeout_s: float = Field(60.0, gt=0, description="of one request to the server")

    @model_validator(mode="after")
    def _one_place(self) -> Any:
        if self.base_url is None:
            method_info(self.method)
            if not isinstance(self.proxy, str | Path) and not hasattr(self.proxy, "layout"):
                raise BadInput(
                    f"proxy is {type(self.proxy).__name__}; give a name, a folder or a loaded Proxy"
                )
            if self.api_key is not None:
                raise BadInput("api_key is for a server; give base_url, too, or leave it out")
        elif self.proxy != AUTO or self.cache is not None or self.options:
            raise BadInput(
                "proxy, cache and options are of this process and base_url is of a server, which "
                "has its own; give one or the other"
            )
        return self

    @property
    def backend(self) -> Backend:
        """Made for a request: a constructor loads nothing and calls nobody."""
        if self.base_url is None:
            return LocalBackend(self.proxy, self.cache, **self.options)
        from tamis.service.integrations.remote import remote_backend

        key = self.api_key.get_secret_value() if self.api_key else None
        return remote_backend(self.base_url, key, self.timeout_s)


class CompressionFields(BackendFields):
    """How much is kept, how it is shown, and what happens when it cannot be done.

    Give a limit (`max_tokens` or `ratio`), a floor (`threshold` or `coverage`), or one of each;
    without any, 500 tokens are kept. `top_n` alone keeps whole documents.
    """

    max_tokens: int | None = Field(
        None, description="the most tokens of all documents joined; 500 if no budget is given"
    )
    ratio: float | None = Field(None, description="the largest share of the input's tokens")
    threshold: float | None = Field(None, description="keep sentences of at least this probability")
    coverage: float | None = Field(None, description="keep all the evidence with this probability")
    top_n: int | None = Field(None, ge=1, description="keep text of at most so many documents")
    order: Literal["original", "score", "edges"] = Field(
        "original", description="of documents: as given, best first, best at both ends"
    )
    granularity: Granularity = Field(
        "sentence", description="what is kept as one: sentence, block or token"
    )
    context_window: int = Field(0, ge=0, description="neighbours to keep around a kept sentence")
    protect: tuple[str, ...] = Field((), description="regular expressions; matches are kept")
    dedup: float | None = Field(None, description="drop near-duplicates from this overlap on")
    answerable_floor: float = Field(
        0.0, description="below this probability that there is an answer, `unanswerable` decides"
    )
    unanswerable: Unanswerable = Field(
        "best_effort", description="what to give then: best_effort, nothing or pass_through"
    )
    separator: str = Field("\n\n", description="what you will join the documents with")
    elision: str | None = Field(None, description="shown where text was left out; None: nothing")
    tokenizer: Any = Field("proxy", description="counts the budget: `proxy` or a tokenizer.json")
    always_score: bool = Field(False, description="ask the model even if everything fits")
    shadow: bool = Field(
        False, description="give every document back whole; metadata says what would be kept"
    )
    title_key: str | None = Field(None, description="metadata that holds a title, read before text")
    metadata_prefix: str | None = Field("", description="of the keys added; None: add none")
    on_error: OnError = Field(
        "passthrough",
        description="where the model or the server breaks down: passthrough logs it and gives "
        "every document back whole, fail raises; what is wrong with a field or a query is raised",
    )

    @model_validator(mode="after")
    def _served(self) -> Any:
        self.plan(1)
        if self.base_url is not None:
            if not isinstance(self.tokenizer, str):
                raise BadInput("tokenizer is an object; a server knows tokenizers by their names")
        elif (kind := method_info(self.method).kind) != "compression":
            raise BadInput(
                f"{self.method} is a method of {kind} and keeps no sentences; give one of "
                f"{', '.join(method_names())}"
            )
        return self

    def plan(self, documents: int) -> CompressionPlan:
        """A request for so many documents."""
        given = (self.max_tokens, self.ratio, self.threshold, self.coverage)
        none = Budget(MAX_TOKENS) if self.top_n is None else Budget(ratio=1.0)
        budget = none if set(given) == {None} else Budget(*given)
        # top_n has every document scored, even where all fits: an order by score needs scores
        scored = self.always_score or self.order != "original"
        rules = Rules(
            protect=self.protect,
            granularity=self.granularity,
            context_window=self.context_window,
            dedup=self.dedup,
            order=self.order,
            separator=self.separator,
            elision=self.elision,
            answerable_floor=self.answerable_floor,
            unanswerable=self.unanswerable,
            top_n=self.top_n or (max(documents, 1) if scored else None),
        )
        return CompressionPlan(
            budget=budget,
            rules=rules,
            method=self.method,
            language=self.language,
            tokenizer=self.tokenizer,
        )

    def short(self, question: str, passages: Sequence[Passage]) -> CompressedContext:
        """What is kept of each passage; no passages are nothing to keep.

        Raises:
            BadInput: and its kinds, for what cannot be served. ProxyMissing: the model is not here.
            ServiceError: what the server refuses; where it broke down, under `on_error="fail"`.
        """
        if not passages:
            return CompressedContext((), "passthrough", self.method)
        try:
            short = self.backend.compress(question, passages, self.plan(len(passages)))
            return self._shown(short, passages)
        except Exception as error:
            return self._failed(passages, error)

    async def ashort(self, question: str, passages: Sequence[Passage]) -> CompressedContext:
        """`short`, with the event loop free; a task that is cancelled has not failed."""
        if not passages:
            return CompressedContext((), "passthrough", self.method)
        try:
            short = await self.backend.acompress(question, passages, self.plan(len(passages)))
            return self._shown(short, passages)
        except Exception as error:
            return self._failed(passages, error)

    def _shown(self, short: CompressedContext, passages: Sequence[Passage]) -> CompressedContext:
        """The answer; in shadow, every passage as it came, and a line in the log.

        Warnings are logged where no document is left whose metadata could say them.
        """
        if self.metadata_prefix is None or not short.parts:
            for warning in short.warnings:
                logger.warning("%d documents: %s", len(passages), warning)
        if not self.shadow:
            return short
        kept = sum(part.tokens_out or 0 for part in short.parts)
        logger.info(
            "%d of %d documents, %d tokens would be kept", len(short.parts), len(passages), kept
        )
        return to_shadow(short, passages)

    def _failed(self, passages: Sequence[Passage], error: Exception) -> CompressedContext:
        """On the way out of an `except`: raised again, or every passage whole and a warning.

        What would go wrong each time is raised whatever `on_error` says: nobody would notice.
        """
        if self.on_error == "fail" or not is_backend_failure(error):
            raise
        logger.warning("%d documents are passed through uncompressed: %s", len(passages), error)
        return pass_through(passages, self.method, f"{type(error).__name__}: {error}")

    def added(
        self, part: KeptPassage, short: CompressedContext, source_length: int, held: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What a document's metadata gets, under the keys that `metadata_prefix` begins.

        `relevance_score` is None where everything fitted and no model was asked, unless `held`,
        the metadata as it came, has one: that stays. Spans are half-open code points of the
        document as it came in. Warnings are of the request, the same in all its documents.
        """
        if self.metadata_prefix is None:
            return {}
        compression = {
            "spans": [list(span) for span in part.spans],
            "tokens_before": part.tokens_in,
            "tokens_after": part.tokens_out,
            "source_length": source_length,
            "answerability": short.answerability,
            "model": short.model,
            "method": short.method,
            "status": short.status,
            "warnings": list(short.warnings),
        }
        prefix = self.metadata_prefix
        scored = f"{prefix}relevance_score"
        score = held.get(scored) if part.score is None else part.score
        return {scored: score, f"{prefix}compression": compression}


def copy_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy in depth; what cannot be copied, such as a lock or a connection, is shared."""
    try:
        return dict(deepcopy(metadata))
    except Exception:
        return {key: _copy_value(value) for key, value in metadata.items()}


def _copy_value(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:
        return value
