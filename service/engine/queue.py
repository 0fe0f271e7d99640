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
_OVERFLOW = 1.1
"""A guess may be short by so much that the line is a tenth over; more is refused after all."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """How full the line is: tokens held, requests that hold any, and the most tokens."""

    tokens: int
    requests: int
    max_tokens: int


class RequestQueue:
    """Jobs of all requests, handed out in batches. Safe for threads."""

    def __init__(self, max_tokens: int, max_requests: int) -> None:
        self.max_tokens, self.max_requests = max_tokens, max_requests
        self.rate = 1000.0
        """Tokens a second: a guess until the first batch was read."""
        self._jobs: dict[QueuedRequest, deque[PromptJob]] = {}
        self._requests: set[QueuedRequest] = set()
        self._reserved_tokens = 0
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
            self._reserved_tokens += tokens
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
            self._reserved_tokens -= request.reserved_tokens
            others, request.reserved_tokens = self._reserved_tokens, 0
            if tokens and others and others + tokens > _OVERFLOW * self.max_tokens:
                raise Overloaded(self._overload_message(tokens), self._wait_s(tokens))
            request.reserved_tokens = tokens
            self._reserved_tokens += tokens
            request.submitted_at = time.monotonic()
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
            freed = min(job.tokens, job.request.reserved_tokens)
            job.request.reserved_tokens -= freed
            self._reserved_tokens -= freed
            self._changed.notify_all()

    def leave(self, request: QueuedRequest) -> None:
        """A request has its answer, or nobody waits for it: its jobs are dropped."""
        with self._changed:
            self._requests.discard(request)
            self._jobs.pop(request, None)
            self._reserved_tokens -= request.reserved_tokens
            request.reserved_tokens = 0
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
        return QueueLoad(self._reserved_tokens, len(self._requests), self.max_tokens)

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
        if len(self._requests) + requests > self.max_requests:
            raise Overloaded(
                f"{len(self._requests)} requests are being served, the most at a time",
                self._reserved_tokens / max(len(self._requests), 1) / self.rate,
            )
        if tokens and self._reserved_tokens and self._reserved_tokens + tokens > self.max_tokens:
            raise Overloaded(self._overload_message(tokens), self._wait_s(tokens))

    def _overload_message(self, tokens: int) -> str:
        return (
            f"{self._held:,} tokens are waiting, about {tokens:,} would come, and "
            f"{self.most_tokens:,} is the most; come back after Retry-After"
        )

    def _wait_s(self, tokens: int) -> float:
        """Until so much was read that there is room."""
        return (self._reserved_tokens + min(tokens, self.max_tokens) - self.max_tokens) / self.rate
