"""Prose (texts of users and systems, pages that tools fetched), shortened by sentences.

Where sentences were left out a marker counts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tamis.compressors.rules import Budget, Rules
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.segmentation.language import resolve_language
from tamis.probes.segmentation.tool_output.parse import parse_tool_output
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis.service.engine.deadline import CompressionJob, PreparedJob
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
        limit: the most tokens of all, markers included.
        question: that `job` asks; empty where nobody asks anything.
    """

    candidates: list[Candidate]
    limit: int
    job: PreparedJob
    question: str

    def shorten(
        self, markers: Mapping[str, OmissionMarker], counter: TextTokenizer
    ) -> list[Shortened] | None:
        """Each text with its best sentences; None if no sentence fits with its markers.

        The sentences are scored once; the budget of the selection shrinks until the markers fit.

        Args:
            markers: by the place of a text.
        """
        limit = self.limit
        for _ in range(_MOST_SELECTIONS):
            shown = self._select(limit, markers, counter)
            if shown is None:
                return None
            excess = sum(one.tokens for one in shown) - self.limit
            if excess <= 0:
                return [one for one in shown if one.tokens < one.candidate.tokens]
            limit -= max(excess, limit // 10)
        return None

    def _select(
        self, limit: int, markers: Mapping[str, OmissionMarker], counter: TextTokenizer
    ) -> list[Shortened] | None:
        if limit < 1:
            return None
        try:
            compression = self.job.compression.with_budget(Budget(max_tokens=limit))
            found = self.job.compressor.finish(compression)
        except BudgetTooSmall:
            return None
        kept = {unit.unit for unit in found.kept}
        return [
            _mark_omissions(candidate, i, found.units, kept, markers, counter)
            for i, candidate in enumerate(self.candidates)
        ]


def prose_job(
    texts: Sequence[str], question: str, language: str, limit: int, patterns: Sequence[Any]
) -> CompressionJob:
    """The job that scores the sentences of some texts; of each at least one is kept if it fits.

    Args:
        patterns: compiled, of what is protected.

    Raises:
        BadInput: a pattern that takes too long.
    """
    passages = [
        Passage(t, keep=tuple(s for p in patterns for s in match_spans(p, t)), min_tokens=1)
        for t in texts
    ]
    return CompressionJob(
        question=question,
        passages=passages,
        budget=Budget(max_tokens=max(1, limit)),
        rules=Rules(),
        language=resolve_language(language, question, texts),
    )


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
    index: int,
    units: Sequence[Unit],
    kept: set[int],
    markers: Mapping[str, OmissionMarker],
    counter: TextTokenizer,
) -> Shortened:
    """A text with its kept units verbatim, and a marker for each run of the others.

    Args:
        index: of its passage. units: of all passages. kept: indexes of the units that stay.
    """
    source, marker = candidate.text.text, markers[candidate.text.pointer]
    own = [(u, unit) for u, unit in enumerate(units) if unit.passage == index]
    parts, spans, omissions = list[str](), Kept(), list[Omitted]()
    for is_kept, run in groupby(enumerate(own, 1), _is_in(kept)):
        members = list(run)
        start, stop = members[0][1][1].start, members[-1][1][1].stop
        if is_kept:
            parts.append(source[start:stop])
            spans.append((start, stop))
            continue
        visible_stop = members[-1][1][1].visible[1]
        tokens = counter.count(source[start:stop])
        first, last = members[0][0], members[-1][0]
        parts += [marker.sentences(first, last, tokens), source[visible_stop:stop]]
        omissions.append(
            Omitted(start=start, end=stop, unit="sentences", first=first, last=last, tokens=tokens)
        )
    shown = "".join(parts)
    return Shortened(candidate, shown, spans, omissions, FORMAT, counter.count(shown))


def _is_in(kept: set[int]) -> Callable[[tuple[int, tuple[int, Unit]]], bool]:
    return lambda item: item[1][0] in kept
