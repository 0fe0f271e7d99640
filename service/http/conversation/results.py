"""Results of tools: prepared by their format, scored for their call, shortened to their limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tamis.compressors.method import Scorer
from tamis.compressors.selection.select import contains, merge_spans, overlaps
from tamis.compressors.tools.prepare import PreparedToolOutputs, prepare_tool_outputs
from tamis.compressors.tools.types import Omission, ToolOutput, shows_source
from tamis.compressors.types import Scores
from tamis.probes.tokens import TextTokenizer
from tamis.service.http.conversation.calls import ToolCall
from tamis.service.http.conversation.candidates import QUESTION_CHARS, Candidate
from tamis.service.http.conversation.markers import OmissionMarker
from tamis.service.http.conversation.shortened import Shortened
from tamis.service.http.schemas.messages import Omitted
from tamis.service.http.schemas.patterns import match_spans


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
        values = self._raise_protected(
            [0.0] * len(self.prepared.units) if scores is None else scores.values
        )
        (found,) = self.prepared.select(values, [self.limit], marker)
        place = self.candidate.text.pointer
        if not shows_source(found, self.candidate.text.text):
            why = (
                f"{place} stays whole: nothing of it fits into {self.limit} tokens with its marker"
            )
            return Shortened.whole(self.candidate, found.format), [why]
        warnings = [f"{place}: {warning}" for warning in found.warnings]
        if left_out := sum(not contains(found.kept, *span) for span in self.keep):
            warnings.append(
                f"{place}: protect matches {len(self.keep)} times and {left_out} did not fit into "
                f"{self.limit} tokens; raise the budget or protect less"
            )
        omissions = [_convert_omission(omission) for omission in found.omissions]
        kept, tokens = list(found.kept), found.tokens_out
        return Shortened(
            self.candidate, found.text, kept, omissions, found.format, tokens
        ), warnings

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
    prepared = prepare_tool_outputs([tool_output(candidate)], question, counter)
    return PreparedResult(candidate, limit, prepared, keep)


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
