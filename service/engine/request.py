"""One admitted request, as the queue and the worker see it, and a method under its deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from tamis.compressors.method import MethodInfo, best_unit_scores, reading_everything
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.types import Ranks, Scores
from tamis.probes.interruption import interruptible
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.engine.errors import OutOfTime, Refused
from tamis.text.types import Passage, Unit

_current: ContextVar[QueuedRequest | None] = ContextVar("queued_request", default=None)


@dataclass(eq=False, slots=True)
class PromptJob:
    """One prompt to read: what of its attention is wanted, and where its signal goes."""

    request: QueuedRequest
    prompt: Prompt
    want: Want
    template: Template
    tokens: int
    answers: SimpleQueue[Signal | Exception]


@dataclass(eq=False, slots=True)
class QueuedRequest:
    """An admitted request.

    Times are of `time.monotonic`.

    Attributes:
        priority: 0 goes first. due: among equal priorities, the earliest goes first.
        reserved_tokens: tokens of the queue that are reserved for it.
        deadline: when it is answered from what was read until then.
        replaying: whether reads are answered from `completed` alone.
        stops_at_deadline: whether work stops there that can: not while an answer is made of what
            was read until then.
        completed: prompts that were read, with their signals; kept only where there is a deadline.
        queue_ms, forward_ms: time spent so far waiting and in forward passes.
        tokens_to_read: tokens of the prompts that it gave to the model so far. tokens_read: of
            those, the ones that were read.
        estimated_tokens: before any prompts were known.
        least_tokens: that it has at the least, those to come included.
        submitted_at: when it began to wait for the model. fault: why it was ended early.
        limit_s: the service's time limit for it. expires: when that ends it; None for never.
        key: what is the same when its client sends it again. ended_at: when it was ended early.
    """

    priority: int
    due: float
    reserved_tokens: int
    deadline: float | None = None
    replaying: bool = False
    stops_at_deadline: bool = False
    completed: list[tuple[Prompt, Signal]] = field(default_factory=list)
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    tokens_to_read: int = 0
    tokens_read: int = 0
    estimated_tokens: int = 0
    least_tokens: float = 0.0
    submitted_at: float | None = None
    fault: Refused | None = None
    limit_s: float | None = None
    expires: float | None = None
    key: int | None = None
    ended_at: float | None = None
    _fault_queue: SimpleQueue[Signal | Exception] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """Makes this the request that the current thread works for, and that ends its work."""
        token = _current.set(self)
        try:
            with interruptible(self.check_time):
                yield
        finally:
            _current.reset(token)

    @contextmanager
    def stopping_at_deadline(self) -> Iterator[None]:
        """Lets the deadline end the work of this thread."""
        before, self.stops_at_deadline = self.stops_at_deadline, True
        try:
            yield
        finally:
            self.stops_at_deadline = before

    @contextmanager
    def answering_from_completed(self) -> Iterator[None]:
        """Has reads answered by what was read so far."""
        self.replaying = True
        try:
            yield
        finally:
            self.replaying = False

    def units_read(self, most: int) -> int:
        """How many units were read, from the first on, at most `most`.

        A prompt has a span for each of its units, in order.
        """
        return min(sum(len(prompt.passage.unit_spans) for prompt, _ in self.completed), most)

    def check_time(self) -> None:
        """Returns if its work shall go on.

        Raises:
            Refused: it was ended. OutOfTime: the deadline passed, and work stops there.
        """
        if self.fault is not None:
            raise self.fault
        if self.stops_at_deadline and self.is_late():
            raise OutOfTime("timeout_ms was over before anything was read; raise it")

    def is_late(self, by_s: float = 0.0) -> bool:
        """Whether the deadline has passed, by so many seconds."""
        return self.deadline is not None and time.monotonic() >= self.deadline + by_s

    def end(self, fault: Refused) -> None:
        """Ends the request early; a thread that waits for its signals gets the fault."""
        with self._lock:
            if self.fault is None:
                self.fault, self.ended_at = fault, time.monotonic()
            if self._fault_queue is not None:
                self._fault_queue.put(self.fault)

    def send_faults_to(self, answers: SimpleQueue[Signal | Exception]) -> None:
        """Sets the queue that `end` puts its fault into."""
        with self._lock:
            self._fault_queue = answers
            if self.fault is not None:
                answers.put(self.fault)

    def wait_for(self, job: PromptJob) -> Signal:
        """Waits for the signal of a job.

        Raises:
            OutOfTime: the deadline passed. Refused: the request was ended, or the worker died.
        """
        remaining_s = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        try:
            answer = job.answers.get(timeout=remaining_s)
        except Empty:
            raise OutOfTime("the deadline came before everything was read") from None
        if isinstance(answer, Exception):
            raise answer
        self.tokens_read += job.tokens
        if self.deadline is not None:
            self.completed.append((job.prompt, answer))
        return answer


def current_request() -> QueuedRequest | None:
    """The request that this thread works for; None outside a request."""
    return _current.get()


@dataclass(frozen=True, slots=True)
class UnderDeadline:
    """Stands in for a method: at the deadline its values are made of what was read so far.

    The deadline is that of the request that the thread works for; it holds no state of one.
    """

    method: Any

    @property
    def info(self) -> MethodInfo:
        """What the method is."""
        found: MethodInfo = self.method.info
        return found

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The method's threshold for a coverage; None where it promises none."""
        threshold: float | None = self.method.coverage_threshold(coverage, cautious)
        return threshold

    def reading_everything(self) -> UnderDeadline:
        """The method that leaves nothing out, under the same deadline."""
        return UnderDeadline(reading_everything(self.method))

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The method's scores; units that were not read in time get theirs by their lexical rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        read: Scores | None = None
        with _until_deadline() as request:
            read = self.method.scores(question, passages, units)
        if read is not None or request is None:
            return read
        by_words = Lexical().scores(question, passages, units)
        known = request.units_read(len(units))
        if known:
            with request.answering_from_completed():
                try:
                    read = self.method.scores(question, passages, units[:known])
                except OutOfTime:  # it reads twice and did not get to its second reading
                    read = None
        if read is None:
            reason = "nothing was read in time"
            return replace(by_words, units_read=0, is_late=True, reason=reason)
        values = (*read.values, *values_by_rank(by_words.values, known, read.values))
        best = best_unit_scores(values, units, len(passages))
        late = replace(read, verdict=None, reason="not all was read in time", is_late=True)
        return replace(late, values=values, passages=best, units_read=known)

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The method's values; passages that were not read in time get theirs by their lexical
        rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        read: Ranks | None = None
        with _until_deadline() as request:
            read = self.method.rank(question, passages, units)
        if read is not None or request is None:
            return read
        by_words = Lexical().rank(question, passages, units)
        known = request.units_read(len(units))
        whole = len(passages) if known == len(units) else units[known].passage
        if whole:
            own = [unit for unit in units if unit.passage < whole]
            with request.answering_from_completed():
                try:
                    read = self.method.rank(question, passages[:whole], own)
                except OutOfTime:  # it reads the passages together, or twice
                    read = None
        warning = (
            f"{whole if read else 0} of {len(passages)} documents were read in time; "
            "the others were placed by their words"
        )
        if read is None:
            return Ranks(by_words.values, warnings=(warning,), passages_read=0)
        late = values_by_rank(by_words.values, whole, read.values)
        late_units = values_by_rank(by_words.units, len(read.units), read.units or (0.0,))
        return replace(
            read,
            values=(*read.values, *late),
            units=(*read.units, *late_units) if read.units else (),
            warnings=(*read.warnings, warning),
            passages_read=whole,
        )


@contextmanager
def _until_deadline() -> Iterator[QueuedRequest | None]:
    """The thread's request; the block ends without an error where the request's deadline came."""
    request = current_request()
    try:
        with nullcontext() if request is None else request.stopping_at_deadline():
            yield request
    except OutOfTime:
        if request is None or request.fault is not None:
            raise


def values_by_rank(words: Sequence[float], known: int, read: Sequence[float]) -> list[float]:
    """For each unit after the first `known`, the `read` value at the unit's rank by `words`."""
    ranks = np.searchsorted(np.sort(words), words[known:], side="left") / max(len(words) - 1, 1)
    return [float(v) for v in np.quantile(np.asarray(read, dtype=np.float64), np.clip(ranks, 0, 1))]
