"""One admitted request, as the queue sees it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.engine.errors import OutOfTime, Refused

_current: ContextVar[QueuedRequest | None] = ContextVar("ticket", default=None)


@dataclass(eq=False, slots=True)
class PromptJob:
    """One prompt on its way: what is wanted of it, and where its signal goes."""

    request: QueuedRequest
    prompt: Prompt
    want: Want
    template: Template
    tokens: int
    answers: queue.SimpleQueue[Signal | Exception]


@dataclass(eq=False, slots=True)
class QueuedRequest:
    """A request that was let in.

    Times are of `time.monotonic`.

    Attributes:
        priority: 0 goes first. due: among equals, the earliest goes first.
        held: tokens of the queue that are held for it.
        deadline: when a best-so-far answer is given instead of waiting on.
        done: prompts that were read, with their signals; kept only where there is a deadline.
        queue_ms, forward_ms: what it has cost so far. fault: why it ends before its time.
    """

    priority: int
    due: float
    reserved_tokens: int
    deadline: float | None = None
    replaying: bool = False
    completed: list[tuple[Prompt, Signal]] = field(default_factory=list)
    queue_ms: float = 0.0
    forward_ms: float = 0.0
    submitted_at: float | None = None
    fault: Refused | None = None
    _fault_queue: queue.SimpleQueue[Signal | Exception] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def as_current(self) -> Iterator[None]:
        """What is read in this thread is read for this request."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def end(self, fault: Refused) -> None:
        """Nobody waits for it any more; whoever reads for it is told."""
        with self._lock:
            self.fault = self.fault or fault
            if self._fault_queue is not None:
                self._fault_queue.put(self.fault)

    def send_faults_to(self, answers: queue.SimpleQueue[Signal | Exception]) -> None:
        """Where `end` calls to."""
        with self._lock:
            self._fault_queue = answers
            if self.fault is not None:
                answers.put(self.fault)

    def wait_for(self, job: PromptJob) -> Signal:
        """The signal of a job, when it comes.

        Raises:
            OutOfTime: the deadline came first. Refused: the request was ended, or the worker died.
        """
        left = None if self.deadline is None else max(0.0, self.deadline - time.monotonic())
        try:
            answer = job.answers.get(timeout=left)
        except queue.Empty:
            raise OutOfTime("the deadline came before everything was read") from None
        if isinstance(answer, Exception):
            raise answer
        if self.deadline is not None:
            self.completed.append((job.prompt, answer))
        return answer


def current_request() -> QueuedRequest | None:
    """The request that this thread works for."""
    return _current.get()
