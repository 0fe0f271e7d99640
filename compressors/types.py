"""What a method returns, and the results of a compression and a reranking."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any, Literal, TypeVar

from tamis.probes.errors import BadInput
from tamis.text.types import Passage, Unit

T = TypeVar("T")
Status = Literal["ok", "passthrough", "unanswerable"]
Verdict = Literal["answerable", "partly", "unanswerable"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How much each unit answers the question.

    Attributes:
        values: one per unit, higher is better. Probabilities where `calibrated`.
        passages: one per passage, for ranking.
        calibrated: whether values are probabilities, so that a threshold means something.
        windows: prompts that were read.
        answerability: the probability that the passages hold an answer at all; None where the
            method cannot tell.
        is_unlike: whether the request is unlike those that the probabilities were fitted on.
        verdict: what follows from the answerability where it was calibrated; None elsewhere.
        floor: the answerability below which the verdict is `unanswerable`.
        reason: what the verdict rests on, or why there is none.
        tokens_read: tokens that ran through the model. tokens_cached: tokens whose keys and values
            came from a cache, and did not run.
        units_read: how many units were read to the end; None for all. Others have the score that
            is expected after what was read of them.
        warnings: what a caller should know about the reading.
        is_late: whether a deadline came before all were read that should be.
    """

    values: tuple[float, ...]
    passages: tuple[float, ...]
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    tokens_cached: int = 0
    answerability: float | None = None
    is_unlike: bool = False
    units_read: int | None = None
    warnings: tuple[str, ...] = ()
    is_late: bool = False
    verdict: Verdict | None = None
    floor: float | None = None
    reason: str = ""

    @property
    def count_read(self) -> int:
        """How many units were read to the end."""
        return len(self.values) if self.units_read is None else self.units_read


@dataclass(frozen=True, slots=True)
class Ranks:
    """How well each passage answers the question.

    Attributes:
        values: one per passage, higher is better.
        units: one per unit where the method scores units, else empty.
        calibrated: whether values are probabilities.
        windows: prompts that were read. tokens_read: tokens that ran through the model.
            tokens_cached: tokens whose keys and values came from a cache, and did not run.
        warnings: what a caller should know about the reading.
        passages_read: how many passages were read before a deadline, from the first on; None where
            all were.
    """

    values: tuple[float, ...]
    units: tuple[float, ...] = ()
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tokens_cached: int = 0
    passages_read: int | None = None


@dataclass(frozen=True, slots=True)
class KeptUnit:
    """One unit that was kept: `passages[passage].text[start:stop]` is its text, verbatim."""

    passage: int
    start: int
    stop: int
    score: float
    unit: int


@dataclass(frozen=True, slots=True)
class SelectedUnits:
    """Which units stay and the text they make."""

    units: tuple[int, ...]
    text: str
    tokens: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compressed:
    """The compressed text, the source of every part of it, and what it cost.

    Attributes:
        text: the kept units, verbatim, joined.
        kept: the units, in the order of the input.
        passages: the input. units: its units; `scores` has one value for each, and
            `passage_scores` one for each passage.
        tokens_in: tokens of the whole context, rendered the same way. tokens_out: of `text`.
        tokenizer: the name of the tokenizer that counted both.
        status: `passthrough` when the whole context fitted and no model ran; `unanswerable` when it
            seems to hold no answer and `Rules.unanswerable` decided.
        windows, tokens_read: prompts and tokens that the proxy read; nothing is cut off.
        tokens_cached: tokens whose keys and values came from a cache, and did not run again.
        answerability: the probability that the context holds an answer; None where the method
            cannot tell, or did not run because the context fitted.
        verdict: `answerable`, `partly` or `unanswerable`: what follows from the answerability where
            it was calibrated; None where it was not, or is None. It decides nothing by itself.
        reason: what the verdict rests on, or why there is none.
        threshold: units of at least this probability were kept; None without a floor.
        units_read: how many units were read to the end; None for all.
        calibrated: whether scores are probabilities.
    """

    text: str
    kept: tuple[KeptUnit, ...]
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    scores: tuple[float, ...]
    passage_scores: tuple[float, ...]
    tokens_in: int
    tokens_out: int
    tokenizer: str
    method: str
    status: Status
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tokens_cached: int = 0
    answerability: float | None = None
    threshold: float | None = None
    units_read: int | None = None
    calibrated: bool = False
    verdict: Verdict | None = None
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.text}\n[{self.counts}; {self.judgement}]"

    def _repr_html_(self) -> str:
        """What a notebook shows: the text, and below it the counts and the verdict."""
        return (
            f'<pre style="white-space: pre-wrap">{escape(self.text)}</pre>'
            f"<small>{escape(f'{self.counts}; {self.judgement}')}</small>"
        )

    @property
    def count_read(self) -> int:
        """How many sentences were read to the end."""
        return len(self.scores) if self.units_read is None else self.units_read

    @property
    def counts(self) -> str:
        """Sentences and tokens that were kept, of how many, and what was read of them."""
        windows = "1 window" if self.windows == 1 else f"{self.windows:,} windows"
        read = f"; read {windows}, {self.count_read:,} sentences to the end" if self.windows else ""
        return (
            f"kept {len(self.kept):,} of {len(self.units):,} sentences, {self.tokens_in:,} → "
            f"{self.tokens_out:,} tokens ({self.ratio:.1%}){read}"
        )

    @property
    def judgement(self) -> str:
        """Whether the context holds an answer, and what says so."""
        return f"{self.verdict or 'no verdict'}: {self.reason}"

    @property
    def ratio(self) -> float:
        """Tokens out per token in."""
        return self.tokens_out / self.tokens_in if self.tokens_in else 1.0

    def expand(self, passage: int, start: int, stop: int, neighbours: int = 1) -> tuple[int, int]:
        """A span extended to whole units and `neighbours` more on both sides, within its passage.

        A kept sentence with its surroundings is then `passages[passage].text[start:stop]`.

        Raises:
            BadInput: no such passage, a span that touches none of its units, or less than no
                neighbours.
        """
        if neighbours < 0:
            raise BadInput(f"neighbours is {neighbours}; give 0 or more")
        own = [unit for unit in self.units if unit.passage == passage]
        overlapping = [i for i, unit in enumerate(own) if unit.start < stop and start < unit.stop]
        if not overlapping:
            raise BadInput(
                f"[{start}, {stop}) touches no sentence of passage {passage}; "
                f"there are {len(self.passages)} passages"
            )
        first, last = max(0, overlapping[0] - neighbours), overlapping[-1] + neighbours
        return own[first].visible[0], own[min(last, len(own) - 1)].visible[1]

    def spans(self, passage: int) -> list[tuple[int, int]]:
        """Kept spans of one passage, in order; adjacent units are merged."""
        merged: list[tuple[int, int]] = []
        ends: list[int] = []
        for kept in self.kept:
            if kept.passage != passage:
                continue
            unit = self.units[kept.unit]
            if merged and ends[-1] == unit.start:
                merged[-1] = (merged[-1][0], kept.stop)
                ends[-1] = unit.stop
            else:
                merged.append((kept.start, kept.stop))
                ends.append(unit.stop)
        return merged


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document of a ranking.

    Attributes:
        index: its place in the caller's list.
        score: what it was ranked by: `own`, or `own` and `first` fused.
        own: the method's score, unfused.
        first: the first stage's score, as given; None where there was no first stage.
    """

    index: int
    score: float
    own: float
    first: float | None = None


@dataclass(frozen=True, slots=True)
class Reranked:
    """Documents, best first, and what it cost to rank them.

    Attributes:
        results: best first, at most `top_n`; documents that tie keep the order of the input.
        passages: the input, all of it. units, scores: its sentences and their scores, where the
            method scores sentences; else empty.
        calibrated: whether each result's `own` is a probability.
        windows, tokens_read: prompts and tokens that the model read; nothing is cut off.
        tokens_cached: tokens whose keys and values came from a cache, and did not run again.
    """

    results: tuple[Ranked, ...]
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    scores: tuple[float, ...]
    method: str
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tokens_cached: int = 0


def to_probability(score: float, calibrated: bool = True) -> float:
    """A score in [0, 1], for every method; the order of scores is kept.

    An uncalibrated score goes through a sigmoid; -inf, the score of a document without text, is 0.
    """
    if calibrated:
        return min(1.0, max(0.0, score))
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0


def check_values(values: Sequence[float], expected: int, what: str, of: str) -> None:
    """Checks that there is a finite number for each of so many.

    Raises:
        BadInput: there is not; the message has the counts, and the first that is wrong.
    """
    if len(values) != expected:
        raise BadInput(f"got {len(values)} {what} for {expected} {of}; give one each")
    wrong = [i for i, value in enumerate(values) if not _is_finite(value)]
    if wrong:
        raise BadInput(
            f"{len(wrong)} of {expected} {what} are not finite, the first is "
            f"{values[wrong[0]]!r:.80} at {wrong[0]}; give finite numbers"
        )


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def check_result_type(found: Any, kind: type[T], method: str) -> T:
    """What a method returned, if it is of the kind that it must return.

    Raises:
        BadInput: it is not.
    """
    if not isinstance(found, kind):
        raise BadInput(
            f"the method {method} returned {type(found).__name__}; it must return {kind.__name__}"
        )
    return found


def token_usage(result: Compressed) -> dict[str, Any]:
    """Tokens read, returned and saved, as commands and the service give them."""
    return {
        "input_tokens": result.tokens_in,
        "output_tokens": result.tokens_out,
        "saved_tokens": result.tokens_in - result.tokens_out,
        "ratio": round(result.ratio, 4),
        "cached_tokens": result.tokens_cached,
        "tokenizer": result.tokenizer,
    }


def passage_runs(units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
    """Half-open runs of units that share a passage."""
    first = 0
    for u in range(1, len(units) + 1):
        if u == len(units) or units[u].passage != units[first].passage:
            yield first, u
            first = u
