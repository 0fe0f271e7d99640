"""Prose (texts of users and systems, retrieved context in them, pages that tools fetched),
shortened by sentences.

Where sentences were left out a marker counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tamis.compressors.pipeline.compression import Compressor, Prepared, Request
from tamis.compressors.rules import Budget
from tamis.compressors.types import Scores
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.segmentation.language import resolve_language
from tamis.probes.segmentation.tool_output.parse import parse_tool_output
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis.service.http.conversation.candidates import Candidate
from tamis.service.http.conversation.markers import OmissionMarker
from tamis.service.http.conversation.shortened import Shortened
from tamis.service.http.schemas.messages import Omitted
from tamis.service.http.schemas.patterns import match_spans

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
        for is_kept, run in groupby(numbered, _is_in(kept)):
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
            omissions.append(
                Omitted(
                    start=start, end=stop, unit="sentences", first=first, last=last, tokens=tokens
                )
            )
    shown.append(source[at:])
    spans.append((at, len(source)))
    text, spans = "".join(shown), [(a, b) for a, b in spans if a < b]
    return Shortened(candidate, text, spans, omissions, FORMAT, counter.count(text))


def _is_in(kept: set[int]) -> Callable[[tuple[int, tuple[int, Unit]]], bool]:
    return lambda item: item[1][0] in kept
