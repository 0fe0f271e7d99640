"""The queue before the model: bounded in tokens, earliest due first, full batches.

A request is due when it would be finished if it had a quarter of the machine to itself:

    due = arrival + SLACK · tokens / tokens a second

so a short request overtakes a long one that arrived just before it, and none waits for ever: as
time passes every request becomes the most urgent one. The worker takes one batch at a time, so a
long request never occupies the model for longer than one batch.
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
"""Estimates may fall short until the queue is a tenth over its limit; beyond that a request is
refused although it was admitted."""


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """How full the queue is: reserved tokens, admitted requests, and the limit of tokens."""

    tokens: int
    requests: int
    max_tokens: int


class RequestQueue:
    """Prompts of all requests, handed out in batches. Thread-safe."""

    def __init__(self, max_tokens: int, max_requests: int) -> None:
        self.max_tokens, self.max_requests = max_tokens, max_requests
        self.tokens_per_second = 1000.0
        """Tokens per second: a guess until the first batch was read."""
        self._jobs: dict[QueuedRequest, deque[PromptJob]] = {}
        self._requests: set[QueuedRequest] = set()
        self._reserved_tokens = 0
        self._closed = False
        self._changed = threading.Condition()

    def admit(self, tokens: int, priority: int = 0, deadline: float | None = None) -> QueuedRequest:
        """Admits a request and reserves tokens for it.

        One that is larger than the whole queue is admitted when the queue is empty.

        Raises:
            Overloaded: with the seconds until there is room. Unavailable: the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the service is shutting down", 1.0)
            self._check_room(tokens, 1)
            due = time.monotonic() + SLACK * tokens / self.tokens_per_second
            request = QueuedRequest(
                priority, due if deadline is None else min(due, deadline), tokens, deadline
            )
            self._requests.add(request)
            self._reserved_tokens += tokens
            return request

    def put(self, request: QueuedRequest, jobs: list[PromptJob]) -> None:
        """Queues prompts of an admitted request; their true size replaces its reservation.

        Raises:
            Overloaded: it is so much larger than the estimate that there is no room for it.
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
        """Waits for the next batch; an empty list once the queue is closed and empty."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            return self._batch(batch_tokens)

    def finish(self, job: PromptJob) -> None:
        """Releases the tokens reserved for a prompt that was read."""
        with self._changed:
            freed = min(job.tokens, job.request.reserved_tokens)
            job.request.reserved_tokens -= freed
            self._reserved_tokens -= freed
            self._changed.notify_all()

    def remove(self, request: QueuedRequest) -> None:
        """Removes a request that has its answer or was abandoned, with its remaining prompts."""
        with self._changed:
            self._requests.discard(request)
            self._jobs.pop(request, None)
            self._reserved_tokens -= request.reserved_tokens
            request.reserved_tokens = 0
            self._changed.notify_all()

    def close(self) -> None:
        """Admits no more requests."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Waits until every request was removed; whether that happened in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._requests, timeout_s)

    def requests(self) -> list[QueuedRequest]:
        """The admitted requests."""
        with self._changed:
            return list(self._requests)

    def load(self) -> QueueLoad:
        """How full the queue is."""
        return QueueLoad(self._reserved_tokens, len(self._requests), self.max_tokens)

    def _batch(self, batch_tokens: int) -> list[PromptJob]:
        """Prompts of the most urgent requests, as many as fit; at least one."""
        batch: list[PromptJob] = []
        room = batch_tokens
        for request in sorted(self._jobs, key=lambda r: (r.priority, r.due)):
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
                self._reserved_tokens / max(len(self._requests), 1) / self.tokens_per_second,
            )
        if tokens and self._reserved_tokens and self._reserved_tokens + tokens > self.max_tokens:
            raise Overloaded(self._overload_message(tokens), self._wait_s(tokens))

    def _overload_message(self, tokens: int) -> str:
        return (
            f"{self._reserved_tokens:,} tokens are waiting, about {tokens:,} would come, and "
            f"{self.max_tokens:,} is the most; come back after Retry-After"
        )

    def _wait_s(self, tokens: int) -> float:
        """Seconds until enough was read to make room."""
        return (
            self._reserved_tokens + min(tokens, self.max_tokens) - self.max_tokens
        ) / self.tokens_per_second
