"""One compression of a conversation: prepared without the model, finished with its scores.

messages ─► candidates ─ limits ─► results of tools: units by format ─┐
                              └──► prose: sentences ──────────────────┴─ scores ─ select ─► answer

Prose is texts of users and systems, retrieved context in them, and pages that tools fetched. Where
something was left out stands a marker, with a hash where the text can be had again.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from tamis.compressors.method import Scorer, check_scores
from tamis.compressors.pipeline.compression import Compressor, Prepared, Request
from tamis.compressors.registry import method_info
from tamis.compressors.rules import Budget
from tamis.compressors.selection.select import contains, merge_spans, overlaps
from tamis.compressors.tools.lossless import write_shorter
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import (
    SALIENCE_QUESTION,
    PreparedToolOutputs,
    prepare_tool_outputs,
)
from tamis.compressors.tools.steps import LEAST_TOKENS, Reason, Superseded
from tamis.compressors.tools.types import Omission, ToolOutput, share_budget, shows_source
from tamis.compressors.types import Scores
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.interruption import check_interruption
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.languages import served_language_warning
from tamis.service.engine.request import QueuedRequest, UnderDeadline, current_request
from tamis.service.http.conversation.candidates import (
    QUESTION_CHARS,
    Candidate,
    Conversation,
    Limits,
)
from tamis.service.http.conversation.texts import ToolCall, needless_results
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.runtime.executor import estimate_tokens
from tamis.service.http.runtime.originals import OriginalStore, text_hash
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import OffsetConverter
from tamis.service.http.schemas.compress import Status, patterns_of
from tamis.service.http.schemas.messages import (
    CCR,
    MessageCompression,
    MessagesAnswer,
    MessagesRequest,
    Omitted,
)
from tamis.service.http.schemas.patterns import BoundedPattern
from tamis.text.language import AUTO, resolve_language
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.types import Passage, Unit

_ELISION = "[…]"


@dataclass(frozen=True, slots=True)
class OmissionMarker:
    """`[… lines 12-47 omitted, 640 tokens; hash=3f…]`; a `Marker` of `compressors.tools`.

    Attributes:
        hash: that the source is kept under; None where it is not.
        tool: the tool of the request that takes such a hash. Without one none is named.
        elision: the caller's text in place of the counts.
    """

    hash: str | None = None
    tool: str | None = None
    elision: str | None = None

    def __call__(self, omission: Omission) -> str:
        """The text for what was left out of a tool's result."""
        return self._complete(default_marker(omission))

    def sentences(self, first: int, last: int, tokens: int) -> str:
        """The text for sentences that were left out of a message."""
        span = f"sentence {first}" if first == last else f"sentences {first}-{last}"
        unit = "token" if tokens == 1 else "tokens"
        return self._complete(f"[… {span} omitted, {tokens} {unit}]")

    def superseded_text(self, why: Superseded, tokens: int) -> str:
        """The text for a result that a later step made needless, below what went wrong in it."""
        cause, _, counted = why.shown(tokens).rpartition("\n")
        marker = self._complete(counted)
        return f"{cause}\n{marker}" if cause else marker

    def shortest(self) -> OmissionMarker:
        """A marker without counts, for a budget that has no room for them."""
        return self if self.elision is not None else replace(self, elision=_ELISION)

    def _complete(self, counted: str) -> str:
        if self.hash is None:
            return counted if self.elision is None else self.elision
        handle = f"{self.tool} hash={self.hash}" if self.tool else f"hash={self.hash}"
        if self.elision is not None:
            return f"{self.elision} [{handle}]"
        return f"{counted.removesuffix(']')}; {handle}]"


@dataclass(slots=True)
class Shortened:
    """A text and what is shown of it.

    Attributes:
        shown: kept spans verbatim, markers between. kept: half-open code points of the source.
        tokens: of `shown`. hash: that the source is kept under, if it is.
        superseded: why a later step made all of it needless; None where none did.
    """

    candidate: Candidate
    shown: str
    kept: list[tuple[int, int]]
    omissions: list[Omitted]
    format: str
    tokens: int
    hash: str | None = None
    superseded: Reason | None = None

    @classmethod
    def whole(cls, candidate: Candidate, format_: str) -> Shortened:
        """The text as it came."""
        text = candidate.text.text
        return cls(candidate, text, [(0, len(text))], [], format_, candidate.tokens)


@dataclass(frozen=True, slots=True)
class PreparedResult:
    """A tool's result that is longer than its limit.

    Attributes:
        limit: the most tokens of it, markers included.
        keep: spans that protected patterns match.
    """

    candidate: Candidate
    limit: int
    prepared: PreparedToolOutputs
    keep: Sequence[tuple[int, int]]

    @property
    def question(self) -> str:
        """What a scorer is asked: the call with the user's question; empty with neither."""
        return self.prepared.questions[0]

    def score(self, scorer: Scorer) -> Scores | None:
        """How much each part answers; None where nobody asks anything or there is no part."""
        units = self.prepared.units
        if not self.question or not units:
            return None
        return scorer.scores(self.question, self.prepared.passages, units)

    def shorten(self, scores: Scores | None, marker: OmissionMarker) -> tuple[Shortened, list[str]]:
        """The result within its limit, and warnings; whole where nothing of it would be left."""
        read = [0.0] * len(self.prepared.units) if scores is None else scores.values
        values = self._raise_protected(read)
        (found,) = self.prepared.select(values, [self.limit], marker)
        place = self.candidate.text.pointer
        if not shows_source(found, self.candidate.text.text):
            why = f"nothing of it fits into {self.limit} tokens with its marker"
            return Shortened.whole(self.candidate, found.format), [f"{place} stays whole: {why}"]
        warnings = [f"{place}: {warning}" for warning in found.warnings]
        if left_out := sum(not contains(found.kept, *span) for span in self.keep):
            warnings.append(
                f"{place}: protect matches {len(self.keep)} times and {left_out} did not fit into "
                f"{self.limit} tokens; raise the budget or protect less"
            )
        omissions = [_convert_omission(omission) for omission in found.omissions]
        parts = found.text, list(found.kept), omissions, found.format, found.tokens_out
        return Shortened(self.candidate, *parts), warnings

    def _raise_protected(self, values: Sequence[float]) -> list[float]:
        """Values in which units that a protected pattern matches go before all others."""
        if not self.keep:
            return list(values)
        above, spans = max(values, default=0.0) + 1.0, merge_spans(self.keep)
        return [
            above if overlaps(spans, unit.start, unit.stop) else value
            for value, unit in zip(values, self.prepared.units, strict=True)
        ]


def write_result(candidate: Candidate, counter: TextTokenizer) -> Shortened:
    """A tool's result written shorter with nothing left out; as it is where it cannot be."""
    output = tool_output(candidate)
    shown = write_shorter(output.text, counter)
    found = Shortened.whole(candidate, parse_tool_output(output.text, output.call).format)
    return replace(found, shown=shown, tokens=counter.count(shown))


def replace_result(
    candidate: Candidate, why: Superseded, marker: OmissionMarker, counter: TextTokenizer
) -> Shortened:
    """A result that a later step made needless: its marker, below what went wrong in it."""
    output, source = tool_output(candidate), candidate.text.text
    kept, left_out = Kept(), [(0, len(source))]
    start = f"\n{source}\n".find(f"\n{why.cause}\n") if why.cause else -1
    if start >= 0:  # with its line's end
        stop = min(start + len(why.cause) + 1, len(source))
        kept, left_out = [(start, stop)], [(0, start), (stop, len(source))]
    omissions = [
        Omitted(
            start=a,
            end=b,
            unit="lines",
            first=source.count("\n", 0, a) + 1,
            last=source.count("\n", 0, b - 1) + 1,
            tokens=counter.count(source[a:b]),
        )
        for a, b in left_out
        if a < b
    ]
    shown = marker.superseded_text(why, candidate.tokens)
    format_ = parse_tool_output(output.text, output.call).format
    return Shortened(
        candidate, shown, kept, omissions, format_, counter.count(shown), None, why.reason
    )


def tool_output(candidate: Candidate) -> ToolOutput:
    """A tool's result with its call; of long arguments, such as a whole file, the beginning."""
    call = candidate.text.call or ToolCall()
    arguments = call.arguments and call.arguments[:QUESTION_CHARS]
    return ToolOutput(candidate.text.text, call.name, arguments)


def _convert_omission(omission: Omission) -> Omitted:
    return Omitted(
        start=omission.start,
        end=omission.stop,
        unit=omission.unit,
        first=omission.first,
        last=omission.last,
        tokens=omission.tokens,
        content=omission.content,
    )


FORMAT = "prose"
_MOST_SELECTIONS = 8
_SENTENCE_END = re.compile(r"[.!?][)\"'\]]*(?=\s|$)|[。！？]")
_PROSE_LINE_CHARS, _PROSE_LINE_SENTENCES = 200, 2
Kept = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class PreparedProse:
    """Texts that together are longer than their limit, cut into sentences.

    Attributes:
        limit: the most tokens of all that may be shortened, markers included.
        compressor: scores and selects the sentences.
        prepared: the texts, cut into sentences.
        question: that `prepared` asks; empty where nobody asks anything.
    """

    candidates: list[Candidate]
    limit: int
    compressor: Compressor
    prepared: Prepared
    question: str

    @property
    def passages(self) -> list[str]:
        """The texts of what may be shortened."""
        return [text for candidate in self.candidates for text in candidate.passages]

    def score(self) -> Scores | None:
        """How much each sentence answers; None where none can stay."""
        if self.limit < 1 or not self.prepared.units:
            return None
        return self.compressor.score(self.prepared)

    def shorten(
        self, scores: Scores | None, markers: Mapping[str, OmissionMarker]
    ) -> list[Shortened] | None:
        """Each text with its best sentences; None if no sentence fits with its markers.

        The budget of the selection shrinks until the markers fit.

        Args:
            scores: of the sentences.
            markers: by the place of a text.
        """
        limit = self.limit
        for _ in range(_MOST_SELECTIONS):
            shown = self._select(limit, scores, markers)
            if shown is None:
                return None
            left = sum(one.tokens - one.candidate.fixed_tokens for one in shown)
            excess = left - self.limit
            if excess <= 0:
                return [one for one in shown if one.tokens < one.candidate.tokens]
            limit -= max(excess, limit // 10)
        return None

    def _select(
        self, limit: int, scores: Scores | None, markers: Mapping[str, OmissionMarker]
    ) -> list[Shortened] | None:
        if limit < 1:
            return None
        prepared = self.prepared.with_budget(Budget(max_tokens=limit))
        try:
            found = self.compressor.select(prepared, scores)
        except BudgetTooSmall:
            return None
        kept = {unit.unit for unit in found.kept}
        if not kept:
            return None
        by_passage = groupby(enumerate(found.units), lambda item: item[1].passage)
        own = {passage: list(units) for passage, units in by_passage}
        shown, first = list[Shortened](), 0
        for candidate in self.candidates:
            marker = markers[candidate.text.pointer]
            of_parts = [own.get(first + i, []) for i in range(len(candidate.parts))]
            shown.append(_mark_omissions(candidate, of_parts, kept, marker, prepared.counter))
            first += len(candidate.parts)
        return shown


def is_prose(text: str, call: str) -> bool:
    """Whether a tool returned sentences: a page, a passage.

    Most of it is in lines of several sentences, and it has no format of its own.
    """
    lines = text.splitlines()
    in_prose = sum(len(line) for line in lines if _is_prose_line(line))
    return 2 * in_prose > sum(map(len, lines)) and parse_tool_output(text, call).format == "text"


def _is_prose_line(line: str) -> bool:
    if len(line) < _PROSE_LINE_CHARS:
        return False
    ends = _SENTENCE_END.finditer(line)
    return sum(1 for _ in zip(ends, range(_PROSE_LINE_SENTENCES), strict=False)) == (
        _PROSE_LINE_SENTENCES
    )


def _mark_omissions(
    candidate: Candidate,
    units: Sequence[Sequence[tuple[int, Unit]]],
    kept: set[int],
    marker: OmissionMarker,
    counter: TextTokenizer,
) -> Shortened:
    """A text with its kept units verbatim, and a marker for each run of the others.

    Args:
        units: of each part of the candidate, with their indexes. kept: indexes of units that stay.
    """
    source, at, count = candidate.text.text, 0, 0
    shown, spans, omissions = list[str](), Kept(), list[Omitted]()
    for part, own in zip(candidate.parts, units, strict=True):
        numbered = enumerate(own, count + 1)
        count += len(own)
        for is_kept, run in groupby(numbered, lambda item: item[1][0] in kept):
            if is_kept:
                continue
            members = list(run)
            (first, (_, head)), (last, (_, tail)) = members[0], members[-1]
            start, stop = part.start + head.start, part.start + tail.stop
            tokens = counter.count(source[start:stop])
            shown += [source[at:start], marker.sentences(first, last, tokens)]
            shown.append(source[part.start + tail.visible[1] : stop])
            spans.append((at, start))
            at = stop
            omitted = Omitted(
                start=start, end=stop, unit="sentences", first=first, last=last, tokens=tokens
            )
            omissions.append(omitted)
    shown.append(source[at:])
    spans.append((at, len(source)))
    text, spans = "".join(shown), [(a, b) for a, b in spans if a < b]
    return Shortened(candidate, text, spans, omissions, FORMAT, counter.count(text))


@dataclass(frozen=True, slots=True)
class RequestOriginals:
    """The store, for one request and the owner of its API key."""

    store: OriginalStore
    body: MessagesRequest
    owner: str

    def markers(
        self, conversation: Conversation, texts: Sequence[Candidate]
    ) -> dict[str, OmissionMarker]:
        """The marker of each text that will be shortened, by its place."""
        hashes = self._hashes(conversation, texts) if self._is_wanted(conversation) else {}
        tool, elision = conversation.retrieve_tool, self.body.elision
        places = [candidate.text.pointer for candidate in texts]
        return {
            place: OmissionMarker(hashes.get(place), tool if place in hashes else None, elision)
            for place in places
        }

    def keep(self, shortened: Sequence[Shortened], markers: dict[str, OmissionMarker]) -> None:
        """Keeps the texts whose markers have a hash, and from which something was left out."""
        for one in shortened:
            text = one.candidate.text
            if one.omissions and markers[text.pointer].hash is not None:
                tool = text.call.name if text.call else None
                tokens = one.candidate.tokens
                one.hash = self.store.put(self.owner, text.text, tool, tokens, one.shown)

    def expected_marker(self, conversation: Conversation, text: str) -> OmissionMarker:
        """The marker that a text would have if there was room for it; no other one is longer."""
        elision = self.body.elision
        if self.body.config.mode != CCR or self.body.shadow or not self.store.max_bytes:
            return OmissionMarker(elision=elision)
        return OmissionMarker(text_hash(text), conversation.retrieve_tool, elision)

    def _is_wanted(self, conversation: Conversation) -> bool:
        if self.body.config.mode != CCR or self.body.shadow:
            return False
        if not self.store.max_bytes:
            conversation.warnings.append(
                f"config.mode has no effect: {CCR} needs a service that keeps originals; start it "
                "with --retrieve-bytes"
            )
        return self.store.max_bytes > 0

    def _hashes(self, conversation: Conversation, texts: Sequence[Candidate]) -> dict[str, str]:
        """The hash of each text that the store has room for, the newest first, by its place."""
        room, found = self.store.max_bytes, dict[str, str]()
        for candidate in sorted(texts, key=lambda c: c.text.message, reverse=True):
            needed = self.store.room_for(candidate.text.text)
            if needed is not None and needed <= room:
                room -= needed
                found[candidate.text.pointer] = text_hash(candidate.text.text)
        if left_out := len(texts) - len(found):
            conversation.warnings.append(
                f"{left_out} of {len(texts)} texts cannot be retrieved: they do not fit into the "
                f"{self.store.max_bytes:,} bytes of --retrieve-bytes"
            )
        return found


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
        patterns: compiled, of what is protected.
    """

    conversation: Conversation
    limits: Limits
    counter: TextTokenizer
    patterns: Sequence[BoundedPattern]
    results: list[PreparedResult] = field(default_factory=list)
    prose: list[PreparedProse] = field(default_factory=list)
    whole: list[Candidate] = field(default_factory=list)

    def keep_spans(self, text: str) -> tuple[tuple[int, int], ...]:
        """The spans of a text that are kept: those that the patterns match.

        Raises:
            BadInput: a pattern that takes too long.
        """
        return tuple(span for one in self.patterns for span in one.spans(text))

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
        most_tokens: of a tool's result, beside the request's budget.
    """

    state: ServiceState
    body: MessagesRequest
    method: str
    entry: RequestLogEntry
    most_tokens: float = math.inf

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
        patterns = patterns_of(self.body.protect, self.entry.search_time)
        self._leave_out_needless(conversation, patterns, counter)
        limits = conversation.limits()
        prepared = PreparedConversation(conversation, limits, counter, patterns)
        results = [c for c in conversation.candidates if c.text.call is not None or c.stretches]
        others = [c for c in conversation.candidates if c.text.call is None and not c.stretches]
        if self.body.lossless:
            prepared.whole.extend(results)
            results = others = []
        result_tokens = [candidate.free_tokens for candidate in results]
        most = limits.tokens * sum(result_tokens) // max(1, conversation.candidate_tokens)
        for candidate, share in zip(results, share_budget(result_tokens, most), strict=True):
            check_interruption()
            if not candidate.stretches:
                share = int(min(share, self.most_tokens))
            if share >= candidate.free_tokens:
                continue
            if candidate.stretches:
                self._prepare_others(prepared, [candidate], share)
            else:
                self._prepare_result(prepared, candidate, share)
        if sum(candidate.tokens for candidate in others) > limits.tokens - most:
            self._prepare_others(prepared, others, limits.tokens - most)
        if self.body.language != AUTO and not prepared.prose:
            prepared.warn("language has no effect: no sentences were compressed")
        self.state.metrics.observe_stages({"segment": (time.perf_counter() - began) * 1e3})
        return prepared

    def _leave_out_needless(
        self, conversation: Conversation, patterns: Sequence[BoundedPattern], counter: TextTokenizer
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
            if any(pattern.spans(text.text) for pattern in patterns):
                continue
            marker = originals.expected_marker(conversation, text.text)
            tokens = counter.count(marker.superseded_text(why, candidate.tokens))
            if tokens < candidate.tokens:
                conversation.leave_out(candidate, why, tokens)

    @property
    def _originals(self) -> RequestOriginals:
        return RequestOriginals(self.state.originals, self.body, self.entry.key)

    def _prepare_result(
        self, prepared: PreparedConversation, candidate: Candidate, limit: int
    ) -> None:
        question, output = prepared.conversation.question, tool_output(candidate)
        if is_prose(output.text, output.call):
            asked = "\n".join(text for text in (output.call, question) if text)
            prepared.prose.append(self._prose(prepared, [candidate], asked, limit))
        else:
            keep, tokens = prepared.keep_spans(candidate.text.text), [candidate.tokens]
            found = prepare_tool_outputs([output], question, prepared.counter, tokens)
            prepared.results.append(PreparedResult(candidate, limit, found, keep))

    def _prepare_others(
        self, prepared: PreparedConversation, others: list[Candidate], limit: int
    ) -> None:
        """Prepares texts of users and systems, or what is tagged in one of them."""
        question = prepared.conversation.question
        if question is not None:
            prepared.prose.append(self._prose(prepared, others, question, limit))
            return
        why = "texts of users and systems stay as they are, for nobody asks anything; give question"
        if why not in prepared.conversation.warnings:
            prepared.warn(why)

    def _prose(
        self, prepared: PreparedConversation, candidates: list[Candidate], question: str, limit: int
    ) -> PreparedProse:
        """Prepares prose; without a question its first sentences stay."""
        parts = [part for candidate in candidates for part in candidate.parts]
        texts = [text for candidate in candidates for text in candidate.passages]
        asked, method = (question, self.method) if question else (SALIENCE_QUESTION, _UNASKED)
        passages = [
            Passage(text, keep=prepared.keep_spans(text), min_tokens=part.min_tokens)
            for text, part in zip(texts, parts, strict=True)
        ]
        language = resolve_language(self.body.language, asked, texts)
        compressor = self.state.methods.compressor(method, self.body.tokenizer)
        found = compressor.prepare(
            Request(asked, passages, Budget(max_tokens=max(1, limit)), language=language)
        )
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
    omissions = [
        o.model_copy(update={"start": to_unit(o.start), "end": to_unit(o.end)})
        for o in (one.omissions if shows_spans else ())
    ]
    return MessageCompression(
        message=text.message,
        part=text.part,
        path=text.pointer,
        tool=text.call.name if text.call else None,
        format=one.format,
        kept=[[to_unit(a), to_unit(b)] for a, b in one.kept] if shows_spans else None,
        omissions=omissions if shows_spans else None,
        tokens_before=one.candidate.tokens,
        tokens_after=one.tokens,
        hash=one.hash,
        superseded=one.superseded,
    )
