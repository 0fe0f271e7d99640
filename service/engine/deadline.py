"""One compression for the service: in time, adaptive if asked, scored even where it fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from tamis.compressors.method import Info, Scorer, best_of_passage, check_scores
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.selection.granularity import reads_words
from tamis.compressors.selection.order import Orderers
from tamis.compressors.types import Budget, Compressed, Kept, Rules, Scores
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import Ticket, current

ADAPTIVE_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Adaptive:
    """A budget that follows the text: what probably answers, within two bounds.

    Attributes:
        min_ratio, max_ratio: at least and at most so many tokens in for one token out.
    """

    min_ratio: float = 1.5
    max_ratio: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_ratio <= self.max_ratio:
            raise BadInput(
                f"adaptive has min_ratio {self.min_ratio:g} and max_ratio {self.max_ratio:g}; "
                "give 1 <= min_ratio <= max_ratio"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to compress, and how.

    Attributes:
        always: score the sentences although everything fits.
    """

    question: str
    passages: Sequence[Passage]
    budget: Budget | Adaptive
    rules: Rules
    language: str = AUTO
    always: bool = False


@dataclass(frozen=True, slots=True)
class Sifted:
    """A compression, and how much of it was read.

    Attributes:
        calibrated: whether scores are probabilities.
        read, units: sentences that were read in time, and all of them.
    """

    result: Compressed
    calibrated: bool
    read: int
    units: int


@dataclass(slots=True)
class Timely:
    """A method that answers with what it has seen when the time is up, once for a request."""

    scorer: Scorer
    read: int | None = None
    units: int = 0
    found: Scores | None = None
    info: ClassVar[Info] = Info("another method, within a deadline", "")

    @property
    def reads_words(self) -> bool:
        """Whether the method behind can score single words."""
        return reads_words(self.scorer)

    def covering(self, coverage: float) -> float | None:
        """The method's threshold for a coverage; None where it promises none."""
        promise = getattr(self.scorer, "covering", None)
        threshold: float | None = promise(coverage) if promise else None
        return threshold

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """As the method behind. What was not read in time is placed by its words.

        Raises:
            OutOfTime: nobody waits for the answer any more.
        """
        if self.found is not None:
            return self.found
        self.units = len(units)
        try:
            self.found = self.scorer.scores(question, passages, units)
            self.read = len(units)
        except OutOfTime:
            if (ticket := current()) is None or ticket.fault is not None:
                raise
            self.found = self._so_far(ticket, question, passages, units)
        return self.found

    def _so_far(
        self, ticket: Ticket, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """The units that were read by the method, the rest at the same rank by their words."""
        words = Lexical().scores(question, passages, units)
        read = self._replayed(ticket, question, passages, units)
        self.read = 0 if read is None else len(read.values)
        if read is None:
            return words
        placed = _placed(words.values, self.read, read.values)
        values = (*read.values, *placed)
        ranks = best_of_passage(values, units, len(passages))
        return replace(read, values=values, passages=ranks)

    def _replayed(
        self, ticket: Ticket, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores | None:
        """The method's scores of the first units, from the signals that came in time.

        A prompt carries a span for each of its units, in order: so many units are known.
        """
        known = min(sum(len(prompt.read.spans) for prompt, _ in ticket.done), len(units))
        if not known:
            return None
        ticket.replaying = True
        try:
            return self.scorer.scores(question, passages, units[:known])
        except OutOfTime:  # it reads more than once, and the second time was not reached
            return None
        finally:
            ticket.replaying = False


def sift(
    scorer: Scorer, name: str, counter: Tokens, order: Order, orderers: Orderers | None = None
) -> Sifted:
    """Compresses as ordered.

    Raises:
        BadInput: and its kinds, for what cannot be served.
        OutOfTime: nothing was read in time, and the budget needs probabilities.
    """
    check_scores(scorer.info, name)
    timely = Timely(scorer)
    compressor = Compressor(timely, name, counter, orderers)
    try:
        result = _compressed(compressor, order, counter)
    except BadInput:
        if timely.read == 0:
            raise OutOfTime(
                "nothing was read in time, and a threshold needs probabilities"
            ) from None
        raise
    if order.always and not result.scores and result.units:
        scores = timely.scores(order.question, result.passages, result.units)
        result = _scored(result, scores)
    calibrated = timely.found is not None and timely.found.calibrated
    units = timely.units or len(result.units)
    return Sifted(result, calibrated, units if timely.read is None else timely.read, units)


def _compressed(compressor: Compressor, order: Order, counter: Tokens) -> Compressed:
    def within(budget: Budget) -> Compressed:
        return compressor.compress(
            order.question, order.passages, budget, order.rules, language=order.language
        )

    if isinstance(order.budget, Budget):
        return within(order.budget)
    # one reading, some selections: the scorer remembers
    free = within(Budget(threshold=ADAPTIVE_THRESHOLD))
    most = math.floor(free.tokens_in / order.budget.min_ratio)
    least = math.ceil(free.tokens_in / order.budget.max_ratio)
    if not free.units:
        return free
    found = free if free.tokens_out >= least else _at_least(least, free, within)
    return found if found.tokens_out <= most else within(Budget(max_tokens=max(1, most)))


def _at_least(tokens: int, free: Compressed, within: Callable[[Budget], Compressed]) -> Compressed:
    """The fewest of the best units that together have so many tokens; all that may be kept if they
    have not."""
    values = sorted(set(free.scores), reverse=True)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if within(Budget(threshold=values[middle])).tokens_out >= tokens:
            high = middle
        else:
            low = middle + 1
    return within(Budget(threshold=values[low]))


def _scored(result: Compressed, scores: Scores) -> Compressed:
    """A context that was passed through, with scores all the same."""
    return replace(
        result,
        scores=scores.values,
        passage_scores=scores.passages,
        kept=tuple(
            Kept(k.passage, k.start, k.stop, scores.values[k.unit], k.unit) for k in result.kept
        ),
        windows=scores.windows,
        tokens_read=scores.tokens_read,
        tokens_cached=scores.tokens_cached,
        answerability=scores.answerability,
        timings_ms={**result.timings_ms, **scores.timings_ms},
    )


def _placed(words: Sequence[float], known: int, read: Sequence[float]) -> list[float]:
    """For each unit behind the first `known`, the read value at the rank that its words have."""
    ranks = np.searchsorted(np.sort(words), words[known:], side="left") / max(len(words) - 1, 1)
    return [float(v) for v in np.quantile(np.asarray(read, dtype=np.float64), np.clip(ranks, 0, 1))]
