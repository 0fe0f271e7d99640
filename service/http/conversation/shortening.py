"""How texts are shortened: results of tools by their format, prose by sentences.

Prose is texts of users and systems, retrieved context in them, and pages that tools fetched. Where
something was left out stands a marker, with a hash where the text can be had again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from tamis.compressors.method import Scorer
from tamis.compressors.pipeline.compression import Compressor, Prepared, Request
from tamis.compressors.rules import Budget
from tamis.compressors.selection.select import contains, merge_spans, overlaps
from tamis.compressors.tools.lossless import write_shorter
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import PreparedToolOutputs, prepare_tool_outputs
from tamis.compressors.tools.steps import Reason, Superseded
from tamis.compressors.tools.types import Omission, ToolOutput, shows_source
from tamis.compressors.types import Scores
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.segmentation.language import resolve_language
from tamis.probes.segmentation.tool_output.parse import parse_tool_output
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis.service.http.conversation.candidates import QUESTION_CHARS, Candidate, Conversation
from tamis.service.http.conversation.texts import ToolCall
from tamis.service.http.runtime.originals import OriginalStore, text_hash
from tamis.service.http.schemas.messages import CCR, MessagesRequest, Omitted
from tamis.service.http.schemas.patterns import match_spans

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
    keep: list[tuple[int, int]]

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


def prepare_result(
    candidate: Candidate,
    limit: int,
    question: str | None,
    patterns: Sequence[Any],
    counter: TextTokenizer,
) -> PreparedResult:
    """Parses a tool's result.

    Args:
        question: of the user. patterns: compiled, of what is protected.

    Raises:
        BadInput: a pattern that takes too long.
    """
    keep = [s for pattern in patterns for s in match_spans(pattern, candidate.text.text)]
    output = tool_output(candidate)
    prepared = prepare_tool_outputs([output], question, counter, [candidate.tokens])
    return PreparedResult(candidate, limit, prepared, keep)


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


def prose_request(
    texts: Sequence[str],
    min_tokens: Sequence[int],
    question: str,
    language: str,
    limit: int,
    patterns: Sequence[Any],
) -> Request:
    """What to compress of some texts.

    Args:
        min_tokens: of each text that are kept if they fit.
        patterns: compiled, of what is protected.

    Raises:
        BadInput: a pattern that takes too long.
    """
    passages = [
        Passage(t, keep=tuple(s for p in patterns for s in match_spans(p, t)), min_tokens=least)
        for t, least in zip(texts, min_tokens, strict=True)
    ]
    language = resolve_language(language, question, texts)
    return Request(question, passages, Budget(max_tokens=max(1, limit)), language=language)


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
