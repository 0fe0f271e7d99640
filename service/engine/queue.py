"""The line before the model: bounded in tokens, earliest due first, full batches.

A request is due when it would be done if it had a quarter of the machine for itself:

    due = arrival + SLACK · tokens / tokens a second

so a short request overtakes a long one that came just before it, and none waits for ever: time
alone makes every request the most urgent. What is taken is one batch, so a long request never holds
the model for longer than that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from tamis.service.engine.errors import Overloaded, Unavailable
from tamis.service.engine.request import PromptJob, QueuedRequest

SLACK = 4.0
_SPILL = 1.1
"""A guess may be short by so much that the line is a tenth over; more is refused after all."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """How full the line is: tokens held, requests that hold any, and the most tokens."""

    tokens: int
    requests: int
    most_tokens: int


class RequestQueue:
    """Jobs of all requests, handed out in batches. Safe for threads."""

    def __init__(self, most_tokens: int, most_requests: int) -> None:
        self.most_tokens, self.most_requests = most_tokens, most_requests
        self.rate = 1000.0
        """Tokens a second: a guess until the first batch was read."""
        self._jobs: dict[QueuedRequest, deque[PromptJob]] = {}
        self._requests: set[QueuedRequest] = set()
        self._held = 0
        self._closed = False
        self._changed = threading.Condition()

    def admit(self, tokens: int, priority: int = 0, deadline: float | None = None) -> QueuedRequest:
        """Lets a request in, and holds tokens for it.

        One that is larger than the whole line is let in when the line is empty.

        Raises:
            Overloaded: with the seconds until there is room. Unavailable: the line is closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the service is shutting down", 1.0)
            self._check_room(tokens, 1)
            due = time.monotonic() + SLACK * tokens / self.rate
            request = QueuedRequest(
                priority, due if deadline is None else min(due, deadline), tokens, deadline
            )
            self._requests.add(request)
            self._held += tokens
            return request

    def put(self, request: QueuedRequest, jobs: list[PromptJob]) -> None:
        """Jobs of a request that was let in; what was held by guess is now held by count.

        Raises:
            Overloaded: it is so much larger than the guess that there is no room for it.
        """
        tokens = sum(job.tokens for job in jobs)
        with self._changed:
            if request.fault is not None:
                raise request.fault
            self._held -= request.held
            others, request.held = self._held, 0
            if tokens and others and others + tokens > _SPILL * self.most_tokens:
                raise Overloaded(self._told(tokens), self._wait_s(tokens))
            request.held = tokens
            self._held += tokens
            request.submitted = time.monotonic()
            self._jobs.setdefault(request, deque()).extend(jobs)
            self._changed.notify_all()

    def take(self, batch_tokens: int) -> list[PromptJob]:
        """The next batch, as soon as there is one; nothing when the line is closed and empty."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return self._batch(batch_tokens)

    def finish(self, job: PromptJob) -> None:
        """Lets go of a job's tokens."""
        with self._changed:
            freed = min(job.tokens, job.request.held)
            job.request.held -= freed
            self._held -= freed
            self._changed.notify_all()

    def leave(self, request: QueuedRequest) -> None:
        """A request has its answer, or nobody waits for it: its jobs are dropped."""
        with self._changed:
            self._requests.discard(request)
            self._jobs.pop(request, None)
            self._held -= request.held
            request.held = 0
            self._changed.notify_all()

    def close(self) -> None:
        """Lets nobody in any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until every request has left; whether that came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._requests, timeout_s)

    def requests(self) -> list[QueuedRequest]:
        """The requests that are in."""
        with self._changed:
            return list(self._requests)

    def load(self) -> QueueLoad:
        """How full it is."""
        return QueueLoad(self._held, len(self._requests), self.most_tokens)

    def _batch(self, batch_tokens: int) -> list[PromptJob]:
        """Jobs of the most urgent requests, as many as fit; at least one."""
        batch: list[PromptJob] = []
        room = batch_tokens
        for request in sorted(self._jobs, key=lambda t: (t.priority, t.due)):
            jobs = self._jobs[request]
            while jobs and (jobs[0].tokens <= room or not batch):
                room -= jobs[0].tokens
                batch.append(jobs.popleft())
            if not jobs:
                del self._jobs[request]
            if room <= 0:
                break
        return batch

    def _check_room(self, tokens: int, requests: int) -> None:
        if len(self._requests) + requests > self.most_requests:
            raise Overloaded(
                f"{len(self._requests)} requests are being served, the most at a time",
                self._held / max(len(self._requests), 1) / self.rate,
            )
        if tokens and self._held and self._held + tokens > self.most_tokens:
            raise Overloaded(self._told(tokens), self._wait_s(tokens))

    def _told(self, tokens: int) -> str:
        return (
            f"{self._held:,} tokens are waiting, about {tokens:,} would come, and "
            f"{self.most_tokens:,} is the most; come back after Retry-After"
        )

    def _wait_s(self, tokens: int) -> float:
        """Until so much was read that there is room."""
        return (self._held + min(tokens, self.most_tokens) - self.most_tokens) / self.rate
