"""What the adapters for other frameworks share: their pydantic fields, and one compression.

Every framework that has an adapter brings pydantic along; tamis alone does not need it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    create_model,
    model_validator,
)

from tamis.compressors.method import check_scores
from tamis.compressors.options import options_of
from tamis.compressors.registry import DEFAULT, check_options, method_info
from tamis.compressors.rules import BUDGETS, Budget, budget_of, rules_from, rules_in
from tamis.probes.errors import BadInput
from tamis.service.agents.remote import check_address
from tamis.service.api.languages import STANDARD
from tamis.service.api.option_fields import option_fields
from tamis.service.integrations.backend import (
    CompressedContext,
    CompressionPlan,
    Excerpt,
    LocalBackend,
    is_backend_failure,
    pass_through,
    to_shadow,
)
from tamis.text.inputs import is_whole
from tamis.text.language import AUTO
from tamis.text.types import Passage

if TYPE_CHECKING:
    from tamis.service.integrations.remote import RemoteBackend

T = TypeVar("T")
logger = logging.getLogger("tamis")
CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)
"""A misspelt field is an error, not a default; errors never show the input, which may be a key."""
_POSITIONS = {"start_index", "split_idx_start"}
"""Metadata in which splitters of LangChain and Haystack say where a text begins in its source."""
OnError = Annotated[
    Literal["passthrough", "fail", "raise"],
    AfterValidator(lambda given: "fail" if given == "raise" else given),
]
"""As `on_error` of `POST /v1/compress`; `raise` is a synonym of `fail`."""


class BackendFields(BaseModel):
    """Where the work is done, and by which method.

    In this process, with `proxy` and `cache`; or by a tamis server, with `base_url`,
    `api_key` and `timeout_s`.
    """

    model_config = CONFIG

    method: str = Field(DEFAULT, description="how sentences are scored: see `tamis methods`")
    language: str = Field(AUTO, description="of the documents; auto looks at them")
    proxy: Any = Field(AUTO, description="a zoo name, a folder, a loaded Proxy; auto: by language")
    quality: str = Field(STANDARD, description="standard, or fast: less time, fewer answers kept")
    cache: Any = Field(None, description="a PassageCache: a document is read once, whoever asks")
    options: dict[str, Any] = Field({}, description="the method's own")
    root: Path | None = Field(None, description="where models are")
    base_url: str | None = Field(None, description="of a tamis server; None is this process")
    api_key: SecretStr | None = Field(None, description="of the server")
    timeout_s: float = Field(60.0, gt=0, description="of one request to the server")

    @model_validator(mode="after")
    def _check_backend_fields(self) -> Any:
        if self.base_url is None:
            # an encoder is a model that methods are built with
            own = {name: self.options[name] for name in self.options if name != "encoder"}
            check_options(self.method, own)
            if not isinstance(self.proxy, str | Path) and not hasattr(self.proxy, "layout"):
                raise BadInput(
                    f"proxy is {type(self.proxy).__name__}; give a name, a folder or a loaded Proxy"
                )
            if self.api_key is not None:
                raise BadInput("api_key is for a server; give base_url, too, or leave it out")
        elif (self.proxy, self.quality) != (AUTO, STANDARD) or self.cache is not None:
            raise BadInput(
                "proxy, quality and cache are of this process and base_url is of a server, which "
                "has its own; give one or the other"
            )
        else:
            check_address("base_url", self.base_url)
        return self

    @property
    def backend(self) -> LocalBackend | RemoteBackend:
        """The backend for one request; constructing it loads no model and opens no connection."""
        if self.base_url is None:
            return LocalBackend(self.proxy, self.cache, quality=self.quality, root=self.root)
        from tamis.service.integrations.remote import remote_backend

        key = self.api_key.get_secret_value() if self.api_key else None
        return remote_backend(os.getpid(), self.base_url, key, self.timeout_s)


if TYPE_CHECKING:

    class OptionFields(BackendFields):
        """A field for each budget and rule; see `compressors.rules`."""

        top_n: int | None
        order: str
        separator: str
        read_metadata: tuple[str, ...]
else:
    OptionFields = create_model(
        "OptionFields",
        __base__=BackendFields,
        **option_fields(options_of(Budget), bounded=False),
        **option_fields(rules_in("adapters")),
    )


class CompressionFields(OptionFields):
    """How much is kept, how it is shown, and what happens when it cannot be done.

    Give a limit (`max_tokens` or `ratio`), a floor (`threshold` or `coverage`), or one of each;
    without any, 500 tokens are kept. `top_n` alone keeps whole documents.
    """

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
        "every document back whole, fail raises; what is wrong with a field or a question is "
        "raised",
    )

    @model_validator(mode="after")
    def _check_compression_fields(self) -> Any:
        self.plan(1)
        if self.base_url is None:
            check_scores(method_info(self.method), self.method)
        elif not isinstance(self.tokenizer, str):
            raise BadInput("tokenizer is an object; a server knows tokenizers by their names")
        return self

    def passage(self, text: str, id: str | None, metadata: Mapping[str, Any]) -> Passage:
        """What is read of a document: text, title, and of the metadata what `read_metadata` names.

        Nothing else of it is sent to a server.
        """
        title = metadata.get(self.title_key) if self.title_key else None
        read = {name: metadata[name] for name in self.read_metadata if name in metadata}
        return Passage(text, id, title if isinstance(title, str) else None, read)

    def plan(self, documents: int) -> CompressionPlan:
        """The plan for this number of documents."""
        given = {name: getattr(self, name) for name in BUDGETS}
        keeps_whole = self.top_n is not None and set(given.values()) == {None}
        budget = Budget(ratio=1.0) if keeps_whole else budget_of(**given)
        # top_n makes every document scored, even where all fit: an order by score needs scores
        needs_scores = self.always_score or self.order != "original"
        most = self.top_n or (max(documents, 1) if needs_scores else None)
        rules = rules_from(self, "adapters", top_n=most)
        return CompressionPlan(
            budget=budget,
            rules=rules,
            method=self.method,
            options=self.options,
            language=self.language,
            tokenizer=self.tokenizer,
        )

    def compress_passages(self, question: str, passages: Sequence[Passage]) -> CompressedContext:
        """What is kept of each passage; without passages the result is empty.

        Raises:
            BadInput: and its subclasses, for what cannot be served. ProxyMissing: the model is not
                on this machine.
            ServiceError: what the server refuses; its own failures only under `on_error="fail"`.
        """
        if not passages:
            return CompressedContext((), "passthrough", self.method)
        try:
            context = self.backend.compress(question, passages, self.plan(len(passages)))
            return self._log_and_shadow(context, passages)
        except Exception as error:
            return self._pass_through_or_raise(passages, error)

    async def acompress_passages(
        self, question: str, passages: Sequence[Passage]
    ) -> CompressedContext:
        """`compress_passages` without blocking the event loop; cancellation is not a failure."""
        if not passages:
            return CompressedContext((), "passthrough", self.method)
        try:
            context = await self.backend.acompress(question, passages, self.plan(len(passages)))
            return self._log_and_shadow(context, passages)
        except Exception as error:
            return self._pass_through_or_raise(passages, error)

    def _log_and_shadow(
        self, context: CompressedContext, passages: Sequence[Passage]
    ) -> CompressedContext:
        """The context; with `shadow`, every passage unchanged and the savings in the log.

        Warnings are logged where no document is left whose metadata could carry them.
        """
        if self.metadata_prefix is None or not context.parts:
            for warning in context.warnings:
                logger.warning("%d documents: %s", len(passages), warning)
        if not self.shadow:
            return context
        kept = sum(part.tokens_out or 0 for part in context.parts)
        logger.info(
            "%d of %d documents, %d tokens would be kept", len(context.parts), len(passages), kept
        )
        return to_shadow(context, passages)

    def _pass_through_or_raise(
        self, passages: Sequence[Passage], error: Exception
    ) -> CompressedContext:
        """Called in an `except` block: raises again, or returns every passage whole with a warning.

        An error of the request or of the set-up is raised whatever `on_error` says: it would occur
        every time and nobody would notice.
        """
        if self.on_error == "fail" or not is_backend_failure(error):
            raise
        logger.warning("%d documents are passed through uncompressed: %s", len(passages), error)
        return pass_through(passages, self.method, f"{type(error).__name__}: {error}")

    def join_parts(
        self,
        given: Sequence[T],
        texts: Mapping[int, T],
        context: CompressedContext,
        shortened: Callable[[T, Excerpt, CompressedContext], T],
    ) -> list[T]:
        """Shortened documents and those without text: in input order, or those without text last.

        Args:
            texts: the documents with text, by their indices.
        """
        indices = list(texts)
        kept = {
            (index := indices[part.passage]): shortened(texts[index], part, context)
            for part in context.parts
        }
        both = kept | {index: one for index, one in enumerate(given) if index not in texts}
        return [both[index] for index in (sorted(both) if self.order == "original" else both)]

    def added_metadata(
        self,
        part: Excerpt,
        context: CompressedContext,
        source_length: int,
    ) -> dict[str, Any]:
        """The metadata added to a document; `metadata_prefix` is put before each key.

        `evidence_score` is None where everything fitted and no model was used. A document's own
        `relevance_score`, which a ranking gave it, stays. Spans are half-open code points of the
        input document. Warnings belong to the request and are the same in all its documents.
        """
        if self.metadata_prefix is None:
            return {}
        compression = {
            "spans": [list(span) for span in part.spans],
            "tokens_before": part.tokens_in,
            "tokens_after": part.tokens_out,
            "source_length": source_length,
            "answerability": context.answerability,
            "verdict": context.verdict,
            "reason": context.reason,
            "model": context.model,
            "method": context.method,
            "status": context.status,
            "warnings": list(context.warnings),
        }
        prefix = self.metadata_prefix
        score = context.evidence(part)
        return {f"{prefix}evidence_score": score, f"{prefix}compression": compression}


def check_kind(given: Sequence[Any], kind: type, give: str, noun: str = "document") -> None:
    """Refuses what is of no class of the framework.

    Args:
        give: what to give in its place. noun: what one of them is called.

    Raises:
        BadInput: with the place of the first.
    """
    for number, one in enumerate(given):
        if not isinstance(one, kind):
            raise BadInput(f"{noun} {number} is of type {type(one).__name__}; give {give}")


def kept_position(part: Excerpt, text: str, position: int) -> int | None:
    """Where the part that is kept of a text begins in a source that has the text at a position.

    None where it is in several pieces.
    """
    start = part.spans[0][0] if len(part.spans) == 1 and part.text != text else 0
    return position + start if text.startswith(part.text, start) else None


def copy_metadata(metadata: Mapping[str, Any], part: Excerpt, text: str) -> dict[str, Any]:
    """A deep copy; values that cannot be copied, such as a lock or a connection, are shared.

    Where its text begins in its source, as splitters note it, is said of the part that is kept of
    the text; None where that is in pieces.
    """
    copied = {key: _copy_value(value) for key, value in metadata.items()}
    for key in _POSITIONS & copied.keys():
        if is_whole(position := copied[key]) and position >= 0:
            copied[key] = kept_position(part, text, position)
    return copied


def _copy_value(value: Any) -> Any:
    try:
        return deepcopy(value)
    except Exception:
        return value
