"""One admitted request, as the queue and the worker see it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from tamis.probes.interruption import interruptible
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.engine.errors import OutOfTime, Refused

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
        submitted_at: when it began to wait for the model. fault: why it was ended early.
        limit_s: the service's time limit for it. expires: when that ends it; None for never.
        key: what is the same when its client sends it again.
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
    submitted_at: float | None = None
    fault: Refused | None = None
    limit_s: float | None = None
    expires: float | None = None
    key: int | None = None
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
            raise OutOfTime("the time that the request was given is over")

    def is_late(self, by_s: float = 0.0) -> bool:
        """Whether the deadline has passed, by so many seconds."""
        return self.deadline is not None and time.monotonic() >= self.deadline + by_s

    def end(self, fault: Refused) -> None:
        """Ends the request early; a thread that waits for its signals gets the fault."""
        with self._lock:
            self.fault = self.fault or fault
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
