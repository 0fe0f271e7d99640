"""One compression of a conversation: prepared without the model, finished with its scores.

messages ─► candidates ─ limits ─► results of tools: units by format ─┐
                              └──► prose: sentences ──────────────────┴─ scores ─ select ─► answer
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.compressors.method import check_scores
from tamis.compressors.registry import method_info
from tamis.compressors.tools.prepare import SALIENCE_QUESTION
from tamis.compressors.tools.steps import LEAST_TOKENS
from tamis.compressors.tools.types import share_budget
from tamis.compressors.types import Scores
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.interruption import check_interruption
from tamis.probes.segmentation.language import AUTO
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.languages import served_language_warning
from tamis.service.engine.request import QueuedRequest, UnderDeadline, current_request
from tamis.service.http.conversation.candidates import Candidate, Conversation, Limits
from tamis.service.http.conversation.shortening import (
    OmissionMarker,
    PreparedProse,
    PreparedResult,
    RequestOriginals,
    Shortened,
    is_prose,
    prepare_result,
    prose_request,
    replace_result,
    tool_output,
    write_result,
)
from tamis.service.http.conversation.texts import needless_results
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.runtime.executor import estimate_tokens
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import OffsetConverter
from tamis.service.http.schemas.compress import Status
from tamis.service.http.schemas.messages import (
    MessageCompression,
    MessagesAnswer,
    MessagesRequest,
    Omitted,
)
from tamis.service.http.schemas.patterns import compile_pattern, match_spans

Markers = dict[str, OmissionMarker]
LOSSLESS = "lossless"
"""What stands for the method in an answer where nothing was left out."""
SUPERSEDED = "tamis:superseded"
"""What an answer says was applied to results that a later step made needless."""
_UNASKED = "lead"
"""The method for prose where neither a call nor a user asks anything."""


@dataclass(frozen=True, slots=True)
class PreparedConversation:
    """A conversation of which it is known what has to be shortened, and to how much.

    Attributes:
        results: results of tools that are longer than their limits. prose: texts that are cut into
            sentences: one for each such result and each text with retrieved context between tags,
            one for all other texts of users and systems.
        whole: results that are written shorter with nothing left out.
    """

    conversation: Conversation
    limits: Limits
    counter: TextTokenizer
    results: list[PreparedResult]
    prose: list[PreparedProse]
    whole: list[Candidate] = field(default_factory=list)

    def texts(self) -> list[Candidate]:
        """The texts that will be shortened, and those that a later step made needless."""
        of_prose = (candidate for prose in self.prose for candidate in prose.candidates)
        needless = (candidate for candidate, _ in self.conversation.needless)
        return [*needless, *(result.candidate for result in self.results), *of_prose]

    def warn(self, *warnings: str) -> None:
        """Adds warnings to the answer."""
        self.conversation.warnings += warnings


@dataclass(slots=True)
class _Progress:
    """How many units there are to read, and how many were read before the deadline.

    Attributes:
        cached: tokens that the passage cache had.
        is_late: whether the deadline came before all were read that should be.
    """

    units: int = 0
    read: int = 0
    cached: int = 0
    is_late: bool = False

    def add(self, scores: Scores | None) -> None:
        if scores is not None:
            self.units += len(scores.values)
            self.read += scores.count_read
            self.cached += scores.tokens_cached
            self.is_late |= scores.is_late


@dataclass(frozen=True, slots=True)
class ConversationCall:
    """One request with `messages`; each step runs in a thread.

    Attributes:
        method: that scores.
        entry: of the request in the log; originals are kept for the owner of its API key.
    """

    state: ServiceState
    body: MessagesRequest
    method: str
    entry: RequestLogEntry

    def read(self) -> Conversation:
        """The texts and which of them may be shortened.

        Raises:
            UnknownTokenizer: the request names one that is not there.
        """
        return Conversation(self.body, self.state.methods.counter(self.body.tokenizer))

    def prepare(self, conversation: Conversation) -> PreparedConversation:
        """Divides the budget and parses what exceeds its part; no model runs.

        Raises:
            BadInput: a budget, a pattern or a method that cannot be followed.
        """
        check_scores(method_info(self.method), self.method)
        began = time.perf_counter()
        counter = self.state.methods.counter(self.body.tokenizer)
        patterns = self.body.protect.patterns() if self.body.protect else []
        compiled = [compile_pattern(pattern) for pattern in patterns]
        self._leave_out_needless(conversation, compiled, counter)
        limits = conversation.limits()
        prepared = PreparedConversation(conversation, limits, counter, [], [])
        results = [c for c in conversation.candidates if c.text.call is not None or c.stretches]
        others = [c for c in conversation.candidates if c.text.call is None and not c.stretches]
        if self.body.lossless:
            prepared.whole.extend(results)
            results = others = []
        result_tokens = [candidate.free_tokens for candidate in results]
        most = limits.tokens * sum(result_tokens) // max(1, conversation.candidate_tokens)
        for candidate, share in zip(results, share_budget(result_tokens, most), strict=True):
            check_interruption()
            if share >= candidate.free_tokens:
                continue
            if candidate.stretches:
                self._prepare_others(prepared, [candidate], share, compiled)
            else:
                self._prepare_result(prepared, candidate, share, compiled)
        if sum(candidate.tokens for candidate in others) > limits.tokens - most:
            self._prepare_others(prepared, others, limits.tokens - most, compiled)
        if self.body.language != AUTO and not prepared.prose:
            prepared.warn("language has no effect: no sentences were compressed")
        self.state.metrics.observe_stages({"segment": (time.perf_counter() - began) * 1e3})
        return prepared

    def _leave_out_needless(
        self, conversation: Conversation, patterns: Sequence[Any], counter: TextTokenizer
    ) -> None:
        """Takes from the candidates what a later step made needless, and no pattern protects."""
        if self.body.lossless or not self.body.config.steps:
            return
        originals = self._originals
        by_place = {candidate.text.pointer: candidate for candidate in conversation.candidates}
        for text, why in needless_results(conversation.texts, conversation.messages):
            candidate = by_place.get(text.pointer)
            if candidate is None or candidate.tokens < LEAST_TOKENS:
                continue
            if any(match_spans(pattern, text.text) for pattern in patterns):
                continue
            marker = originals.expected_marker(conversation, text.text)
            tokens = counter.count(marker.superseded_text(why, candidate.tokens))
            if tokens < candidate.tokens:
                conversation.leave_out(candidate, why, tokens)

    @property
    def _originals(self) -> RequestOriginals:
        return RequestOriginals(self.state.originals, self.body, self.entry.key)

    def _prepare_result(
        self,
        prepared: PreparedConversation,
        candidate: Candidate,
        limit: int,
        patterns: Sequence[Any],
    ) -> None:
        question, output = prepared.conversation.question, tool_output(candidate)
        if is_prose(output.text, output.call):
            asked = "\n".join(text for text in (output.call, question) if text)
            prepared.prose.append(self._prose(prepared, [candidate], asked, limit, patterns))
        else:
            found = prepare_result(candidate, limit, question, patterns, prepared.counter)
            prepared.results.append(found)

    def _prepare_others(
        self,
        prepared: PreparedConversation,
        others: list[Candidate],
        limit: int,
        patterns: Sequence[Any],
    ) -> None:
        """Prepares texts of users and systems, or what is tagged in one of them."""
        question = prepared.conversation.question
        if question is not None:
            prepared.prose.append(self._prose(prepared, others, question, limit, patterns))
            return
        why = "texts of users and systems stay as they are, for nobody asks anything; give question"
        if why not in prepared.conversation.warnings:
            prepared.warn(why)

    def _prose(
        self,
        prepared: PreparedConversation,
        candidates: list[Candidate],
        question: str,
        limit: int,
        patterns: Sequence[Any],
    ) -> PreparedProse:
        """Prepares prose; without a question its first sentences stay."""
        parts = [part for candidate in candidates for part in candidate.parts]
        texts = [text for candidate in candidates for text in candidate.passages]
        asked, method = (question, self.method) if question else (SALIENCE_QUESTION, _UNASKED)
        least = [part.min_tokens for part in parts]
        request = prose_request(texts, least, asked, self.body.language, limit, patterns)
        compressor = self.state.methods.compressor(method, self.body.tokenizer)
        found = compressor.prepare(request)
        return PreparedProse(candidates, limit, compressor, found, question)

    def tokens_needed(self, prepared: PreparedConversation) -> int | None:
        """About how many tokens the model has to read; None where it has nothing to read."""
        asked = [(r.question, [r.candidate.text.text]) for r in prepared.results if r.question]
        asked += [(p.question, p.passages) for p in prepared.prose if p.question]
        if not asked:
            return None
        if not method_info(self.method).needs_proxy:
            return 0
        return sum(estimate_tokens(question, texts) for question, texts in asked)

    def finish(self, prepared: PreparedConversation, queued: QueuedRequest) -> MessagesAnswer:
        """The answer; originals are kept where the request asks for that.

        Raises:
            BudgetTooSmall: a number of tokens into which the conversation does not fit.
        """
        conversation, originals, counter = prepared.conversation, self._originals, prepared.counter
        markers = originals.markers(conversation, prepared.texts())
        progress = _Progress()
        shortened = [
            *(
                replace_result(candidate, why, markers[candidate.text.pointer], counter)
                for candidate, why in conversation.needless
            ),
            *(write_result(candidate, counter) for candidate in prepared.whole),
            *self._shorten_results(prepared, markers, progress),
            *self._shorten_prose(prepared, markers, progress),
        ]
        _check_limit(prepared, shortened)
        originals.keep(shortened, markers)
        metrics = self.state.metrics
        metrics.observe_stages({"queue": queued.queue_ms, "forward": queued.forward_ms})
        metrics.cached_tokens.inc(progress.cached)
        if progress.is_late:
            self.entry.count_partial(metrics)
            prepared.warn(
                f"{progress.read} of {progress.units} sentences were read in time; the others were "
                "placed by their words"
            )
        method = LOSSLESS if self.body.lossless else self.method
        return build_answer(prepared.conversation, shortened, method, progress.is_late)

    def _shorten_results(
        self, prepared: PreparedConversation, markers: Markers, progress: _Progress
    ) -> Iterator[Shortened]:
        for result in prepared.results:
            _forget_completed()
            scores = result.score(UnderDeadline(self.state.methods.scorer(self.method)))
            shortened, warnings = result.shorten(scores, markers[result.candidate.text.pointer])
            prepared.warn(*warnings, *(scores.warnings if scores else ()))
            progress.add(scores)
            yield shortened

    def _shorten_prose(
        self, prepared: PreparedConversation, markers: Markers, progress: _Progress
    ) -> Iterator[Shortened]:
        for prose in prepared.prose:
            _forget_completed()
            scores = prose.score()
            found = prose.shorten(scores, markers)
            if found is None:
                without_counts = {place: one.shortest() for place, one in markers.items()}
                found = prose.shorten(scores, without_counts)
            progress.add(scores)
            if found is None:
                places = ", ".join(candidate.text.pointer for candidate in prose.candidates)
                prepared.warn(
                    f"{places:.500} stays whole: no sentence fits into {prose.limit} tokens with "
                    "its marker"
                )
                continue
            yield from found
            request, name = prose.prepared.request, self.state.methods.reader.card.name
            about = name, self.method, request.language, request.question, prose.passages
            if prose.question and (warning := served_language_warning(*about)):
                prepared.warn(warning)


def _check_limit(prepared: PreparedConversation, shortened: Sequence[Shortened]) -> None:
    """Refuses a number of tokens that could not be met.

    Raises:
        BudgetTooSmall: what is left takes more tokens than the request gave.
    """
    gone = sum(one.tokens for one in shortened if one.superseded)
    saved = sum(one.candidate.tokens - one.tokens for one in shortened if not one.superseded)
    left, most = prepared.conversation.candidate_tokens - saved + gone, prepared.limits.most
    if most is not None and left > most:
        raise BudgetTooSmall(
            f"{left:,} tokens are left of what may be compressed and the budget has room for "
            f"{most:,}: no text is emptied; raise token_budget or max_tokens, or "
            "give ratio"
        )


def _forget_completed() -> None:
    """Forgets the prompts that were read so far: a replay after the deadline is of one text's."""
    if (request := current_request()) is not None:
        request.completed.clear()


def build_answer(
    conversation: Conversation, shortened: Sequence[Shortened], method: str, is_late: bool
) -> MessagesAnswer:
    """The messages with what is shown in place of each text; under `shadow` as they came.

    Args:
        method: that scored. is_late: whether a deadline came before all was read.
    """
    body = conversation.body
    changed = [one for one in shortened if one.shown != one.candidate.text.text]
    compressions = [_compression(conversation, one) for one in changed]
    if not body.shadow:
        for one in changed:
            one.candidate.text.replace(one.shown)
    after = conversation.tokens_before - sum(c.tokens_before - c.tokens_after for c in compressions)
    gone = sum(one.superseded is not None for one in changed)
    counts = {f"tamis:{method}": len(changed) - gone, SUPERSEDED: gone}
    applied = {name: count for name, count in counts.items() if count}
    status: Status = "partial" if is_late else "ok" if changed else "passthrough"
    return MessagesAnswer(
        messages=conversation.messages,
        tokens_before=conversation.tokens_before,
        tokens_after=after,
        tokens_saved=conversation.tokens_before - after,
        compression_ratio=after / conversation.tokens_before if conversation.tokens_before else 1.0,
        transforms_applied=list(applied),
        transforms_summary=applied,
        ccr_hashes=list(dict.fromkeys(c.hash for c in compressions if c.hash)),
        compressions=compressions,
        method=method if len(changed) > gone else None,
        tokenizer=body.tokenizer,
        status="shadow" if body.shadow else status,
        warnings=[*conversation.warnings, *body.field_warnings()],
    )


def whole_answer(conversation: Conversation, why: str) -> MessagesAnswer:
    """The messages as they came, for a caller who prefers them to an error (`passthrough`)."""
    answer = build_answer(conversation, [], "", is_late=False)
    answer.warnings.append(f"nothing was left out, for the service could not: {why}")
    return answer


def _compression(conversation: Conversation, one: Shortened) -> MessageCompression:
    text, body = one.candidate.text, conversation.body
    converter = OffsetConverter(text.text, body.offset_unit)
    to_unit, shows_spans = converter.from_codepoints, body.return_.spans
    return MessageCompression(
        message=text.message,
        part=text.part,
        path=text.pointer,
        tool=text.call.name if text.call else None,
        format=one.format,
        kept=[[to_unit(a), to_unit(b)] for a, b in one.kept] if shows_spans else None,
        omissions=[_convert_offsets(o, converter) for o in one.omissions] if shows_spans else None,
        tokens_before=one.candidate.tokens,
        tokens_after=one.tokens,
        hash=one.hash,
        superseded=one.superseded,
    )


def _convert_offsets(omission: Omitted, converter: OffsetConverter) -> Omitted:
    start, end = map(converter.from_codepoints, (omission.start, omission.end))
    return omission.model_copy(update={"start": start, "end": end})
