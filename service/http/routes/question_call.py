"""One question of a request to `/v1/compress`, from its documents to its answer."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from tamis.compressors.registry import method_info
from tamis.compressors.rules import BUDGETS, RULES, rule_names, spec_of
from tamis.probes.interruption import check_interruption
from tamis.probes.named_tokenizers import approximation_warning
from tamis.probes.segmentation.language import resolve_language
from tamis.probes.tokens import ESTIMATE
from tamis.service.api.languages import served_language_warning
from tamis.service.documents.document_text import raw_html_warning
from tamis.service.engine.deadline import PreparedJob, TimedResult, prepare_job, run_with_deadline
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest, current_request
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.runtime.executor import estimate_tokens
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import new_id
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.http.schemas.compression import Compression, CompressionBuilder
from tamis.service.http.schemas.explain import (
    ExplainRequest,
    budget_selections,
    build_explanation,
)

_LATEST_TURN_S = 1.0
"""So long after the deadline a question may begin, whose units are then placed by their words."""
_LOCK_POLL_S = 0.05


@dataclass(slots=True)
class SharedDocuments:
    """What the questions of one call share: its documents, segmented and counted once.

    Attributes:
        whole: the answer with nothing left out, once there is one.
    """

    whole: Compression | None = None
    _prepared: dict[str, PreparedJob] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare(self, language: str, make: Callable[[], PreparedJob]) -> PreparedJob:
        """What was prepared for another question in the same language, or what `make` prepares."""
        with self._hold_lock():
            if (found := self._prepared.get(language)) is None:
                found = self._prepared[language] = make()
            return found

    def whole_answer(self, make: Callable[[], Compression]) -> Compression:
        """The answer with nothing left out, for one more question."""
        with self._hold_lock():
            self.whole = self.whole or make()
            return self.whole.model_copy(update={"id": new_id("cmp")})

    @contextmanager
    def _hold_lock(self) -> Iterator[None]:
        while not self._lock.acquire(timeout=_LOCK_POLL_S):
            check_interruption()
        try:
            yield
        finally:
            self._lock.release()


@dataclass(frozen=True, slots=True)
class QuestionCall:
    """One question of a request, from its documents to its answer; each step runs in a thread.

    Attributes:
        entry: of the request in the log.
        all_units: whether the answer is an `Explanation`.
    """

    state: ServiceState
    body: CompressRequest
    question: str
    method: str
    documents: SharedDocuments
    entry: RequestLogEntry
    all_units: bool = False

    def prepare(self) -> PreparedJob:
        """Checks and segments; no model runs.

        Raises:
            OutOfTime: its turn came too late.
        """
        request = current_request()
        if request is not None and request.is_late(_LATEST_TURN_S):
            raise OutOfTime("timeout_ms was over before the turn of this question came")
        methods, body = self.state.methods, self.body
        language = resolve_language(body.language, self.question, body.texts())
        scorer = methods.scorer(self.method)

        def make() -> PreparedJob:
            job = replace(body.compression_job(self.question, self.all_units), language=language)
            counter = methods.counter(body.tokenizer)
            return prepare_job(scorer, self.method, counter, job, methods.orderers)

        found = self.documents.prepare(language, make)
        return found.with_question(body.full_question(self.question), scorer)

    def tokens_needed(self, prepared: PreparedJob) -> int | None:
        """About how many tokens the model has to read; None where the context fits as it is."""
        if not prepared.needs_scores:
            return None
        if not method_info(self.method).needs_proxy:
            return 0
        return estimate_tokens(self.body.full_question(self.question), self.body.texts())

    def finish(self, prepared: PreparedJob, queued: QueuedRequest) -> Compression:
        """The compression, and what the metrics count of it."""
        running = self.state.running
        key, request_id = self.entry.key, self.entry.id
        with running.follow(key, request_id, queued) if self.all_units else nullcontext():
            timed_result = run_with_deadline(prepared)
            found = self._answer(prepared, queued, timed_result)
            if not (self.all_units and isinstance(self.body, ExplainRequest)):
                return found
            compression = prepared.compression
            selections = budget_selections(timed_result, compression, self.body.selections)
            limit = compression.budget.tokens(compression.tokens_in)
            return build_explanation(found, self.body, compression.counter, limit, selections)

    def _answer(
        self, prepared: PreparedJob, queued: QueuedRequest, timed_result: TimedResult
    ) -> Compression:
        methods, metrics, body, job = (
            self.state.methods,
            self.state.metrics,
            self.body,
            prepared.job,
        )
        result = timed_result.result
        waited = {"queue": queued.queue_ms, "forward": queued.forward_ms}
        metrics.observe_stages({**result.timings_ms, **waited})
        metrics.cached_tokens.inc(result.tokens_cached)
        if timed_result.is_late:
            self.entry.count_partial(metrics)
        card = (methods.reader.card.name, methods.reader.card.revision)
        counter = prepared.compression.counter
        pages = body.html_documents()
        builder = CompressionBuilder(
            timed_result, job.rules, counter, body.offset_unit, card, pages
        )
        returned = body.return_
        found = builder.build(
            queued,
            returned.spans,
            "all" if self.all_units else returned.units,
            returned.documents or self.all_units,
            returned.text,
            body.shadow,
        )
        texts = body.texts()
        warning = served_language_warning(card[0], self.method, job.language, self.question, texts)
        if warning and result.status != "passthrough":
            found.warnings.append(warning)
        if raw := raw_html_warning(texts):
            found.warnings.append(raw)
        found.usage.estimated = bool(counter.approximates) or counter.name == ESTIMATE
        if counter.approximates:
            found.warnings.append(approximation_warning(counter))
        return found


def whole_documents(call: QuestionCall, why: str) -> Compression:
    """The documents unchanged, for a caller who prefers them to an error (`passthrough`)."""

    def make() -> Compression:
        in_requests = rule_names("http")
        selecting = {
            rule.name: rule.default
            for rule in RULES
            if rule.name in in_requests and spec_of(rule).selects
        }
        budget = {**dict.fromkeys(BUDGETS), "adaptive": None, "max_tokens": 2**31}
        plain = call.body.model_copy(update=budget | selecting)
        whole = replace(call, body=plain, documents=SharedDocuments(), all_units=False)
        return whole.finish(whole.prepare(), QueuedRequest(0, 0.0, 0))

    found = call.documents.whole_answer(make)
    reason = f"nothing was left out, for the service could not: {why}"
    return found.model_copy(update={"warnings": [*found.warnings, reason]})
