"""What goes into a compression and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tamis.compressors.checks import check_budget, check_rules
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

Order = Literal[
    "original", "score", "edges", "attention_sorting", "attnrank", "found_in_the_middle"
]
Status = Literal["ok", "passthrough", "unanswerable"]
Granularity = Literal["sentence", "block", "token"]
Unanswerable = Literal["best_effort", "nothing", "pass_through"]
MAX_TOKENS = 500
"""What is kept where the command line, the service, a chain or an index is given no budget."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be kept: a limit, a floor, or one of each.

    With both, what the floor asks for is kept as far as the limit lets it, the best first; the
    result warns if that was not far enough.

    Attributes:
        max_tokens: at most so many tokens of output, counted on the joined text.
        ratio: at most this share of the input's tokens, rounded down; 1 is no limit, citations may
            make the output longer.
        threshold: every unit with at least this probability, however many tokens that is.
        coverage: as few units as keep all the evidence with this probability, as far as the data at
            hand are like those the method was calibrated on.
    """

    max_tokens: int | None = None
    ratio: float | None = None
    threshold: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        check_budget(self)

    def tokens(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of `tokens_in`; None without a limit."""
        if self.max_tokens is not None:
            return self.max_tokens
        if self.ratio is None or self.ratio == 1:
            return None
        # 0.1 * 30 is 3.0000000000000004: whole tokens, so a hair's breadth is forgiven
        return math.floor(self.ratio * tokens_in + 1e-9)


@dataclass(frozen=True, slots=True)
class Rules:
    """How units are chosen and shown, scores and budget aside.

    Attributes:
        protect: regular expressions; a unit with a match is kept, whatever its score.
        context_window: also keep so many neighbours on both sides of a kept unit, if they fit.
        dedup: drop a unit whose words overlap a better one's by at least this Jaccard share; None
            for never.
        order: of the passages in the output: as given, best first, best at both ends, or as a
            method of ordering says.
        separator: between passages.
        elision: shown where text was left out inside a passage; None for nothing.
        citations: shown before each passage's text: `{doc}` is its 1-based place, `{id}` its id,
            `{unit}` the first kept unit's 1-based place; None for nothing.
        titles: show each passage's title on a line before its text.
        top_n: keep text of at most so many passages, the best by their best unit.
        keep_tags: always keep what stands between `<keep>` and `</keep>` in a passage.
        answerable_floor: below this answerability the context counts as holding no answer, unless
            a unit answers with a probability of .5 or more.
        unanswerable: what is returned then: the best there is all the same, nothing, or the
            context as it came, however long it is.
        granularity: what is kept or dropped as one: a sentence, a block (paragraph, list, table),
            or a word, where the method can score one.
    """

    protect: tuple[str, ...] = ()
    context_window: int = 0
    dedup: float | None = None
    order: Order = "original"
    separator: str = "\n\n"
    elision: str | None = None
    citations: str | None = None
    titles: bool = False
    top_n: int | None = None
    keep_tags: bool = False
    answerable_floor: float = 0.0
    unanswerable: Unanswerable = "best_effort"
    granularity: Granularity = "sentence"

    def __post_init__(self) -> None:
        check_rules(self)


@dataclass(frozen=True, slots=True)
class Scores:
    """How much each unit answers the question.

    Attributes:
        values: one a unit, higher is better. Probabilities where `calibrated`.
        passages: one a passage, for ranking.
        calibrated: whether values are probabilities and a threshold means something.
        answerability: the probability that the passages hold an answer at all; None where the
            method cannot tell.
        tokens_read: tokens that ran through the model. tokens_cached: those that were kept.
    """

    values: tuple[float, ...]
    passages: tuple[float, ...]
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    tokens_cached: int = 0
    answerability: float | None = None


@dataclass(frozen=True, slots=True)
class Ranks:
    """How well each passage answers the question.

    Attributes:
        values: one a passage, higher is better.
        units: one a unit where the method scores units, else empty.
        calibrated: whether values are probabilities.
        windows: prompts that were read. tokens_read: tokens that ran through the model.
            tokens_cached: those that were kept from before, and did not run.
        warnings: what a caller should know of the reading.
    """

    values: tuple[float, ...]
    units: tuple[float, ...] = ()
    calibrated: bool = False
    windows: int = 0
    tokens_read: int = 0
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    tokens_cached: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """One unit that was kept: `passages[passage].text[start:stop]` is its text, verbatim."""

    passage: int
    start: int
    stop: int
    score: float
    unit: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which units stay and the text they make."""

    units: tuple[int, ...]
    text: str
    tokens: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Compressed:
    """The short prompt, where every part of it came from, and what it cost.

    Attributes:
        text: the kept units, verbatim, joined.
        kept: the units, in the order of the input.
        passages: the input; `units`, `scores` and `passage_scores` go with it.
        tokens_in: tokens of the whole context, rendered the same way. tokens_out: of `text`.
        tokenizer: the name of the tokenizer that counted both.
        status: `passthrough` when the whole context fitted and no model was asked; `unanswerable`
            when it seems to hold no answer and `Rules.unanswerable` decided.
        windows, tokens_read: how the proxy read the input; nothing is cut off.
        tokens_cached: tokens that were read for an earlier question and did not run again.
        answerability: the probability that the context holds an answer; None where the method
            cannot tell, or was not asked because the context fitted.
        threshold: the probability down to which units were kept, under a threshold or coverage.
    """

    text: str
    kept: tuple[Kept, ...]
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

    @property
    def ratio(self) -> float:
        """Tokens out per token in."""
        return self.tokens_out / self.tokens_in if self.tokens_in else 1.0

    def expand(self, passage: int, start: int, stop: int, neighbours: int = 1) -> tuple[int, int]:
        """A span grown to whole units and so many units more on both sides, within its passage.

        What was left out next to a kept sentence is then `passages[passage].text[start:stop]`.

        Raises:
            BadInput: no such passage, or a span that touches none of its units.
        """
        own = [unit for unit in self.units if unit.passage == passage]
        touched = [i for i, unit in enumerate(own) if unit.start < stop and start < unit.stop]
        if not touched:
            raise BadInput(
                f"[{start}, {stop}) touches no unit of passage {passage}; "
                f"there are {len(self.passages)} passages"
            )
        first, last = max(0, touched[0] - neighbours), touched[-1] + neighbours
        return own[first].visible[0], own[min(last, len(own) - 1)].visible[1]

    def spans(self, passage: int) -> list[tuple[int, int]]:
        """Kept spans of one passage, in order; units that touch are joined."""
        joined: list[tuple[int, int]] = []
        ends: list[int] = []
        for kept in self.kept:
            if kept.passage != passage:
                continue
            unit = self.units[kept.unit]
            if joined and ends[-1] == unit.start:
                joined[-1] = (joined[-1][0], kept.stop)
                ends[-1] = unit.stop
            else:
                joined.append((kept.start, kept.stop))
                ends.append(unit.stop)
        return joined


@dataclass(frozen=True, slots=True)
class Ranked:
    """One document's place.

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
        results: best first, at most `top_n`; documents that tie keep the order they came in.
        passages: the input, all of it. units, scores: its sentences and how well each answers,
            where the method scores sentences; else empty.
        calibrated: whether each result's `own` is a probability.
        windows, tokens_read: how the model read the input; nothing is cut off.
        tokens_cached: tokens that were read for an earlier question and did not run again.
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
