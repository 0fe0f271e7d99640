"""One compression with a deadline, an adaptive budget, or scores although everything fits."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from tamis.compressors.method import (
    MethodInfo,
    Scorer,
    best_unit_scores,
    ranks_from_scores,
    reading_everything,
)
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.pipeline.compression import Compressor, PreparedCompression
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.order import OrdererFactory
from tamis.compressors.types import Compressed, KeptUnit, Ranks, Scores
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest, current_request

ADAPTIVE_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class AdaptiveLimits:
    """A budget set by the scores: the units that probably answer, within two bounds.

    Attributes:
        min_ratio, max_ratio: the smallest and the largest number of input tokens for each output
            token.
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
class CompressionJob:
    """What to compress, and how.

    Attributes:
        always_score: score the sentences although everything fits, each as far as it can be read:
            the scores are what is asked for.
    """

    question: str
    passages: Sequence[Passage]
    budget: Budget | AdaptiveLimits
    rules: Rules
    language: str = AUTO
    always_score: bool = False

    def deadline_scorer(self, scorer: Scorer) -> DeadlineScorer:
        """A method as this job uses it."""
        return DeadlineScorer(reading_everything(scorer) if self.always_score else scorer)


@dataclass(frozen=True, slots=True)
class TimedResult:
    """A compression, and how much of its input was read before the deadline.

    Attributes:
        calibrated: whether scores are probabilities.
        units_read, units: sentences that were read to the end, and all of them.
        is_late: whether the deadline came before all were read that should be.
    """

    result: Compressed
    calibrated: bool
    units_read: int
    units: int
    is_late: bool


@dataclass(slots=True)
class DeadlineScorer:
    """Wraps a method for one request: at the deadline its scores are made of what was read so far.

    The scores are kept, so that several selections cost one reading. `is_late` says whether the
    deadline came first; with a gate fewer units are read than there are, and that is not late.
    """

    scorer: Scorer
    units_read: int | None = None
    units: int = 0
    is_late: bool = False
    kept_scores: Scores | None = None

    @property
    def info(self) -> MethodInfo:
        """What the wrapped method is."""
        return self.scorer.info

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """Passages by the scores that were reached in time."""
        return ranks_from_scores(self.scores(question, passages, units))

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The method's threshold for a coverage; None where it promises none."""
        return self.scorer.coverage_threshold(coverage, cautious)

    def reading_everything(self) -> DeadlineScorer:
        """This scorer, over the method that leaves nothing out."""
        self.scorer = reading_everything(self.scorer)
        return self

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The wrapped method's scores; units not read in time get scores by their lexical rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        if self.kept_scores is not None:
            return self.kept_scores
        self.units = len(units)
        request = current_request()
        try:
            with nullcontext() if request is None else request.stopping_at_deadline():
                self.kept_scores = self.scorer.scores(question, passages, units)
            read = self.kept_scores.units_read
            self.units_read = len(units) if read is None else read
        except OutOfTime:
            if request is None or request.fault is not None:
                raise
            self.kept_scores = self._partial_scores(request, question, passages, units)
        return self.kept_scores

    def _partial_scores(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Scores:
        """The method's scores of the units that were read; the rest by their lexical rank."""
        self.is_late = True
        lexical = Lexical().scores(question, passages, units)
        read = self._replay_scores(request, question, passages, units)
        self.units_read = 0 if read is None else len(read.values)
        if read is None:
            return lexical
        late = values_by_rank(lexical.values, self.units_read, read.values)
        values = (*read.values, *late)
        ranks = best_unit_scores(values, units, len(passages))
        return replace(read, values=values, passages=ranks)

    def _replay_scores(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Scores | None:
        """The method's scores of the first units, from the signals that came in time."""
        if not (known := request.units_read(len(units))):
            return None
        with request.answering_from_completed():
            try:
                return self.scorer.scores(question, passages, units[:known])
            except OutOfTime:  # the method reads twice and did not get to its second reading
                return None


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A job that was checked and segmented; no model has run.

    Attributes:
        compression: the request, segmented; an adaptive budget begins with its threshold.
        compressor: over `scorer`, which keeps its scores for several selections.
    """

    job: CompressionJob
    compression: PreparedCompression
    compressor: Compressor
    scorer: DeadlineScorer

    @property
    def needs_scores(self) -> bool:
        """Whether a method must score the units: the context does not fit, or scores are wanted."""
        wanted = self.job.always_score or not self.compression.fits
        return wanted and bool(self.compression.units)

    def with_question(self, question: str, scorer: Scorer) -> PreparedJob:
        """The same documents and rules for another question, which has scores of its own."""
        own = self.job.deadline_scorer(scorer)
        compressor = copy(self.compressor)
        compressor.scorer = own
        compression = replace(self.compression, question=question, started=time.perf_counter())
        return PreparedJob(replace(self.job, question=question), compression, compressor, own)


def prepare_job(
    scorer: Scorer,
    name: str,
    counter: TextTokenizer,
    job: CompressionJob,
    orderers: OrdererFactory | None = None,
) -> PreparedJob:
    """Checks and segments a job, and finds out whether its context fits.

    Raises:
        BadInput: and its subclasses, for what cannot be served.
    """
    deadline_scorer = job.deadline_scorer(scorer)
    compressor = Compressor(deadline_scorer, name, counter, orderers)
    given = job.budget
    budget = given if isinstance(given, Budget) else Budget(threshold=ADAPTIVE_THRESHOLD)
    compression = compressor.prepare(
        job.question, job.passages, budget, job.rules, language=job.language
    )
    return PreparedJob(job, compression, compressor, deadline_scorer)


def run_with_deadline(prepared: PreparedJob) -> TimedResult:
    """Compresses a job within the deadline of the request that this thread works for.

    Raises:
        BadInput: and its subclasses, for what cannot be served.
        OutOfTime: nothing was read in time, and the budget needs probabilities.
    """
    job, scorer = prepared.job, prepared.scorer
    try:
        result = _compress(prepared)
    except BadInput:
        if scorer.units_read == 0:
            raise OutOfTime(
                "nothing was read in time, and a threshold needs probabilities"
            ) from None
        raise
    if job.always_score and not result.scores and result.units:
        scores = scorer.scores(job.question, result.passages, result.units)
        result = _with_scores(result, scores)
    units = scorer.units or len(result.units)
    return TimedResult(
        result,
        scorer.kept_scores is not None and scorer.kept_scores.calibrated,
        units if scorer.units_read is None else scorer.units_read,
        units,
        scorer.is_late,
    )


def _compress(prepared: PreparedJob) -> Compressed:
    compression, limits = prepared.compression, prepared.job.budget

    def compress_to(budget: Budget) -> Compressed:
        return prepared.compressor.finish(compression.with_budget(budget))

    if isinstance(limits, Budget):
        return prepared.compressor.finish(compression)
    # one reading, several selections: the scorer keeps its scores
    free = prepared.compressor.finish(compression)
    most = math.floor(free.tokens_in / limits.min_ratio)
    least = math.ceil(free.tokens_in / limits.max_ratio)
    if not free.units:
        return free
    found = free if free.tokens_out >= least else _compress_to_at_least(least, free, compress_to)
    return found if found.tokens_out <= most else compress_to(Budget(max_tokens=max(1, most)))


def _compress_to_at_least(
    tokens: int, free: Compressed, compress_to: Callable[[Budget], Compressed]
) -> Compressed:
    """The fewest of the best units that together have at least `tokens` tokens; all units that may
    be kept if those have fewer."""
    values = sorted(set(free.scores), reverse=True)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        if compress_to(Budget(threshold=values[middle])).tokens_out >= tokens:
            high = middle
        else:
            low = middle + 1
    return compress_to(Budget(threshold=values[low]))


def _with_scores(result: Compressed, scores: Scores) -> Compressed:
    """A context that was passed through whole, with scores added."""
    return replace(
        result,
        scores=scores.values,
        passage_scores=scores.passages,
        kept=tuple(
            KeptUnit(k.passage, k.start, k.stop, scores.values[k.unit], k.unit) for k in result.kept
        ),
        windows=scores.windows,
        tokens_read=scores.tokens_read,
        tokens_cached=scores.tokens_cached,
        answerability=scores.answerability,
        units_read=scores.units_read,
        calibrated=scores.calibrated,
        timings_ms={**result.timings_ms, **scores.timings_ms},
    )


def values_by_rank(words: Sequence[float], known: int, read: Sequence[float]) -> list[float]:
    """For each unit after the first `known`, the `read` value at the unit's rank by `words`."""
    ranks = np.searchsorted(np.sort(words), words[known:], side="left") / max(len(words) - 1, 1)
    return [float(v) for v in np.quantile(np.asarray(read, dtype=np.float64), np.clip(ranks, 0, 1))]
