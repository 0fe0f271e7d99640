"""The queue before the model: bounded in tokens, earliest due first, full batches.

A request is due when it would be finished if it had a quarter of the machine to itself:

    due = arrival + SLACK · tokens / tokens a second

so a short request overtakes a long one that arrived just before it, and none waits for ever: as
time passes every request becomes the most urgent one. The worker takes one batch at a time, so a
long request never occupies the model for longer than one batch.

A request is admitted if it and all that it would overtake are read before their time limits, by the
tokens ahead and the measured rate. One that is refused is told when to come back, and the room that
there will be then is not given to others: a promise, found again by the request's key. One that
could not be read in time with the model to itself is refused for good.

Promises are needed (`python -m tests.soak.simulated`): of those that come back when they were told
to, .05 to .16 are served without them instead of .50 to .80, and p99 of the shortest requests is up
to 2.5 times as long; goodput is 2 % better.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from tamis.service.engine.errors import Overloaded, Refused, TooLong, Unavailable
from tamis.service.engine.request import PromptJob, QueuedRequest

SLACK = 4.0
_OVERFLOW = 1.1
"""Estimates may fall short until the queue is a tenth over its limit; beyond that a request is
refused although it was admitted."""
_SIZE_DECAY = 0.8
_USABLE, _PROMISED = 0.8, 0.55
"""Parts of a time limit that predicted reading may take, at admission and in a promise: the rate
varies, and a request also has to be segmented and answered. One that comes back when it was told to
may use all of its time."""
_UNPROMISED = 0.25
"""The part of the room that no promise takes. Who was refused may never come back: without it,
those who did not would keep all others from a model that has nothing to do."""
_GRACE_S = 2.0
"""How long after its time a promise is kept; `Retry-After` is in whole seconds."""
_HOPED = 1.5
"""A request that would be late even if the model became so much faster is ended at once."""
_MIN_SIZE_RATIO, _MAX_SIZE_RATIO = 0.25, 8.0


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
        self.rate = ReadingRate()
        self.longest_s = math.inf
        """The most seconds that any request may take; what takes longer is refused for good."""
        self._jobs: dict[QueuedRequest, deque[PromptJob]] = {}
        self._requests: set[QueuedRequest] = set()
        self._reserved_tokens = 0
        self._closed = False
        self._size_ratio = 1.0
        """True tokens of a request for each estimated one, of late."""
        self._promises: dict[int, _Promise] = {}
        self._changed = threading.Condition()

    def record_speed(self, tokens: int, seconds: float) -> None:
        """Updates the measured rate by a batch that was read, and ends what is hopeless at it."""
        with self._changed:
            self.rate.record(tokens, seconds)
            hopeless = self._hopeless_requests(time.monotonic())
            faults = {request: self._slow_error(request) for request in hopeless}
            for request in hopeless:
                self._drop_jobs(request)
            self._changed.notify_all()
        for request, fault in faults.items():
            request.end(fault)

    def expect_size(self, ratio: float) -> None:
        """Sets how many tokens a request has for each one that is estimated, before any came."""
        with self._changed:
            self._size_ratio = _bounded_ratio(ratio)

    def admit(
        self,
        tokens: int,
        priority: int = 0,
        deadline: float | None = None,
        limit_s: float | None = None,
        key: int | None = None,
    ) -> QueuedRequest:
        """Admits a request and reserves tokens for it.

        One that is larger than the whole queue is admitted when the queue is empty and no promise
        is broken; so is one that seems to take longer than its limit by itself, until its true size
        is known. One without a key is told a time, and nothing is kept for it.

        Args:
            deadline: when it is answered from what was read until then.
            limit_s: after so many seconds it fails; one that would is not admitted.
            key: what is the same when a refused client sends its request again.

        Raises:
            Overloaded: with the seconds until there is room. Unavailable: the queue is closed.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("the service is shutting down", 1.0)
            now = time.monotonic()
            promised_at = self._promised_at(key)
            is_due = promised_at is not None and promised_at <= now
            self._check_room(tokens, limit_s, key, is_due)
            due = now + SLACK * tokens / self.rate.current
            request = QueuedRequest(
                priority, due if deadline is None else min(due, deadline), tokens, deadline
            )
            request.limit_s, request.key, request.estimated_tokens = limit_s, key, tokens
            request.expires = None if limit_s is None else now + limit_s
            self._check_time(request, now, 1.0 if is_due else _USABLE)
            if key is not None:
                self._promises.pop(key, None)
            self._requests.add(request)
            self._reserved_tokens += tokens
            return request

    def put(self, request: QueuedRequest, jobs: list[PromptJob], least: float = 0.0) -> None:
        """Queues prompts of an admitted request; their true size replaces its reservation.

        Args:
            least: tokens that these prompts cost at the least until they are read to the end.

        Raises:
            Overloaded: it is so much larger than the estimate that there is no room for it, or
                that it would not be done in time. TooLong: not even with the model to itself.
        """
        tokens = sum(job.tokens for job in jobs)
        with self._changed:
            if request.fault is not None:
                raise request.fault
            predicted = self._predicted_tokens(request)
            request.least_tokens = request.tokens_to_read + max(tokens, least)
            request.tokens_to_read += tokens
            self._reserved_tokens -= request.reserved_tokens
            others, request.reserved_tokens = self._reserved_tokens, 0
            if tokens and others and others + tokens > _OVERFLOW * self.max_tokens:
                raise self._full_error(tokens, tokens, request.limit_s, request.key)
            request.reserved_tokens = tokens
            self._reserved_tokens += tokens
            now = time.monotonic()
            is_first, request.submitted_at = request.submitted_at is None, now
            self._check_length(request, now, max(tokens, least))
            if is_first and tokens > predicted:
                self._check_time(request, now, _USABLE)
            self._jobs.setdefault(request, deque()).extend(jobs)
            self._changed.notify_all()

    def take(
        self, batch_tokens: int, is_given_up: Callable[[], bool] = lambda: False
    ) -> list[PromptJob]:
        """Waits for the next batch; an empty list once the queue is finished.

        Args:
            is_given_up: whether the worker is; then it gets nothing. `wake` has it asked again.
        """
        with self._changed:
            self.rate.end()  # a worker that died has left its batch
            while not self._jobs and not self.is_finished and not is_given_up():
                self._changed.wait()
            if is_given_up():
                return []
            batch = self._batch(batch_tokens)
            self.rate.begin(sum(job.tokens for job in batch))
            return batch

    def wake(self) -> None:
        """Has those who wait for a batch look whether they are given up."""
        with self._changed:
            self._changed.notify_all()

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
            is_read = request.fault is None and not request.reserved_tokens
            if is_read and request.tokens_to_read and request.estimated_tokens:
                # not before: one that is read in stages gives a part of its prompts at first
                self._learn_size(request.tokens_to_read / request.estimated_tokens)
            self._drop_jobs(request)
            self._changed.notify_all()

    def close(self) -> None:
        """Admits no more requests."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def is_finished(self) -> bool:
        """Whether nothing will come any more: it is closed, and no admitted request is left.

        A request that tokenises, or that is between two reads, has no prompts here and may bring
        some.
        """
        with self._changed:
            return self._closed and not self._requests

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

    def _drop_jobs(self, request: QueuedRequest) -> None:
        """Drops the prompts of a request that wait, and releases all that is reserved for it."""
        self._jobs.pop(request, None)
        self._reserved_tokens -= request.reserved_tokens
        request.reserved_tokens = 0

    def _batch(self, batch_tokens: int) -> list[PromptJob]:
        """Prompts of the most urgent requests, as many as fit; at least one."""
        batch: list[PromptJob] = []
        room = batch_tokens
        for request in sorted(self._jobs, key=_urgency):
            jobs = self._jobs[request]
            while jobs and (jobs[0].tokens <= room or not batch):
                room -= jobs[0].tokens
                batch.append(jobs.popleft())
            if not jobs:
                del self._jobs[request]
            if room <= 0:
                break
        return batch

    def _check_room(
        self, tokens: int, limit_s: float | None, key: int | None, is_due: bool
    ) -> None:
        needed = tokens * self._size_ratio
        if len(self._requests) >= self.max_requests:
            raise Overloaded(
                f"{len(self._requests)} requests are being served, the most at a time",
                self._reserved_tokens / max(len(self._requests), 1) / self.rate.current,
            )
        if tokens and self._reserved_tokens and self._reserved_tokens + tokens > self.max_tokens:
            raise self._full_error(tokens, needed, limit_s, key)
        if tokens and not is_due and not self._fits_promises(needed, limit_s, key):
            raise Overloaded(
                f"this request needs about {tokens:,} tokens, more than can be read in time, or "
                "that time is promised to requests that were refused before",
                self._promise(key, needed, limit_s),
            )

    def _check_time(self, newcomer: QueuedRequest, now: float, usable: float) -> None:
        """Refuses a request that would not be read in time, or because of which another is not.

        One that has time goes behind those that it would make late.

        Args:
            usable: the part of its time that reading may take.
        """
        others = self._requests - {newcomer}
        if not newcomer.reserved_tokens or not any(r.reserved_tokens for r in others):
            return
        if self._late_s(newcomer, others, now, usable) <= 0:
            return
        due, newcomer.due = newcomer.due, max(newcomer.due, *(r.due for r in others))
        if (late_s := self._late_s(newcomer, others, now, usable)) <= 0:
            return
        newcomer.due = due
        raise Overloaded(
            f"{self._reserved_tokens:,} tokens are waiting and about "
            f"{self.rate.current:,.0f} are read a second, so this would not be done in "
            "time",
            self._promise(newcomer.key, self._predicted_tokens(newcomer), newcomer.limit_s, late_s),
        )

    def _check_length(self, request: QueuedRequest, now: float, tokens: float) -> None:
        """Refuses a request that would not be read in time with the model to itself.

        At the deadline it is answered with what was read, so that one with a deadline is not
        refused. Nor is one while nobody knows how fast the model reads.
        """
        if request.expires is None or request.deadline is not None or not self.rate.is_known:
            return
        is_long = tokens > self.rate.best * self.longest_s
        if is_long or tokens > self.rate.current * (request.expires - now):
            raise self._slow_error(request)

    def late_error(self, request: QueuedRequest) -> Refused | None:
        """The error of a request that was not read before it expired; None if it was read."""
        with self._changed:
            return self._slow_error(request) if request.reserved_tokens else None

    def _slow_error(self, request: QueuedRequest) -> Refused:
        """The error of a request that is not read in time: it never would be, or not at present."""
        tokens = request.least_tokens
        if self.rate.is_known and tokens > self.rate.best * self.longest_s:
            return TooLong(
                f"the request has {tokens:,.0f} tokens to read, which takes "
                f"{tokens / self.rate.best:,.0f} s at {self.rate.best:,.0f} tokens a second, and "
                f"{self.longest_s:g} s is the most; send a shorter question (it is read behind "
                "every document), fewer or shorter documents or timeout_ms, or start the service "
                "with a longer --timeout-s"
            )
        unread = tokens - (request.tokens_to_read - request.reserved_tokens)
        tokens = max(self._predicted_tokens(request), unread)
        return Overloaded(
            f"only {self.rate.current:,.0f} tokens a second are read at present, too few for "
            f"the {tokens:,.0f} of this request",
            self._promise(request.key, tokens, request.limit_s, tokens / self.rate.best),
        )

    def _hopeless_requests(self, now: float) -> list[QueuedRequest]:
        """Requests that would expire unread although the model became half as fast again.

        Others have the time that would be spent on them, and their clients need not wait in vain.
        """
        hopeless, ahead = list[QueuedRequest](), 0.0
        for request in sorted(self._jobs, key=_urgency):
            tokens = self._predicted_tokens(request)
            seconds = (ahead + tokens) / (_HOPED * self.rate.average)
            if (
                request.expires is None
                or request.deadline is not None
                or (seconds <= request.expires - now)
            ):
                ahead += tokens
            else:
                hopeless.append(request)
        return hopeless

    def _late_s(
        self, newcomer: QueuedRequest, others: set[QueuedRequest], now: float, usable: float
    ) -> float:
        """The most seconds by which the newcomer, or one behind it, would be late."""
        ahead, late_s, is_behind = 0.0, 0.0, False
        order = sorted(others, key=_urgency)
        at = sum(_urgency(r) <= _urgency(newcomer) for r in order)
        for request in [*order[:at], newcomer, *order[at:]]:
            ahead += (tokens := self._predicted_tokens(request))
            is_behind = is_behind or request is newcomer
            if is_behind and tokens and request.expires is not None:
                seconds = ahead / (usable * self.rate.current)
                late_s = max(late_s, seconds - (request.expires - now))
        return late_s

    def _predicted_tokens(self, request: QueuedRequest) -> float:
        """Tokens that a request still has to have read: known, or estimated and corrected."""
        is_known = request.submitted_at is not None
        return request.reserved_tokens * (1.0 if is_known else self._size_ratio)

    def _learn_size(self, ratio: float) -> None:
        self._size_ratio += (1 - _SIZE_DECAY) * (_bounded_ratio(ratio) - self._size_ratio)

    def _room(self, limit_s: float | None, part: float = 1.0) -> float:
        """The most tokens in the queue that are read within a part of a time limit."""
        readable = math.inf if limit_s is None else part * limit_s * self.rate.current
        return min(float(self.max_tokens), readable)

    def _promised_at(self, key: int | None) -> float | None:
        """When a request was told to come back; None where nothing is kept for it."""
        promise = None if key is None else self._promises.get(key)
        return None if promise is None else promise.at

    def _promises_to_others(self, key: int | None, now: float) -> list[_Promise]:
        """Promises to other requests that are still kept, the earliest first."""
        self._promises = {k: p for k, p in self._promises.items() if p.at + _GRACE_S > now}
        return sorted((p for k, p in self._promises.items() if k != key), key=lambda p: p.at)

    def _fits_promises(self, tokens: float, limit_s: float | None, key: int | None) -> bool:
        """Whether every promise to others still holds if a request comes before it."""
        work = sum(map(self._predicted_tokens, self._requests)) + tokens
        room, rate, now = self._room(limit_s, _PROMISED), self.rate.current, time.monotonic()
        if work <= _UNPROMISED * self._room(limit_s):
            return True
        for promise in self._promises_to_others(key, now):
            work += promise.tokens
            if work - max(0.0, promise.at - now) * rate > room:
                return False
        return True

    def _promise(
        self, key: int | None, tokens: float, limit_s: float | None, at_least_s: float = 0.0
    ) -> float:
        """Seconds until there is room for a refused request, which is then kept for it.

        Nothing is kept for one that has to wait longer than its limit: room that is promised far
        ahead, mostly to those who will not come, would be nobody's until then.
        """
        now = time.monotonic()
        promised_at = self._promised_at(key)
        if promised_at is not None and promised_at > now:
            return promised_at - now
        others = self._promises_to_others(key, now)
        work = tokens + sum(promise.tokens for promise in others)
        work += sum(
            self._predicted_tokens(r) for r in self._requests if key is None or r.key != key
        )
        wait_s = max(at_least_s, (work - self._room(limit_s, _PROMISED)) / self.rate.current)
        is_near = limit_s is None or wait_s <= limit_s
        if key is not None and is_near and len(others) < self.max_requests:
            self._promises[key] = _Promise(now + max(1, math.ceil(wait_s)), tokens)
        return wait_s

    def _full_error(
        self, tokens: int, needed: float, limit_s: float | None, key: int | None
    ) -> Overloaded:
        return Overloaded(
            f"{self._reserved_tokens:,} tokens are waiting, about {tokens:,} would come, and "
            f"{self.max_tokens:,} is the most",
            self._promise(key, needed, limit_s),
        )


@dataclass(frozen=True, slots=True)
class _Promise:
    """Room for a refused request, from a time on."""

    at: float
    tokens: float


def _urgency(request: QueuedRequest) -> tuple[int, float]:
    """The lowest goes first."""
    return request.priority, request.due


def _bounded_ratio(ratio: float) -> float:
    return min(max(ratio, _MIN_SIZE_RATIO), _MAX_SIZE_RATIO)


UNKNOWN_RATE = 200.0
"""Tokens a second until a batch was read: few, so that what is admitted is read in time."""
_DECAY = 0.8
_BEST_DECAY = 0.98
"""By which the best rate is forgotten with each batch."""
_MOST_OVER_LATEST = 1.25
"""The rate is at most so many times that of the latest two batches, and of the one being read: when
a machine slows down, what was promised at its old speed cannot be kept."""


class ReadingRate:
    """Tokens a second. Not thread-safe: the queue has a lock."""

    def __init__(self) -> None:
        self._tokens = self._seconds = 0.0
        self._latest: list[tuple[int, float]] = []
        self._batch: tuple[int, float] | None = None
        self.best = UNKNOWN_RATE
        """The best of late."""

    @property
    def is_known(self) -> bool:
        """Whether a batch was read."""
        return self._seconds > 0

    def begin(self, tokens: int) -> None:
        """A batch is being read from now on."""
        self._batch = tokens, time.monotonic()

    def end(self) -> None:
        """No batch is being read, though the last one may never have been read to its end."""
        self._batch = None

    def record(self, tokens: int, seconds: float) -> None:
        """A batch was read."""
        self.end()
        self._tokens = _DECAY * self._tokens + tokens
        self._seconds = _DECAY * self._seconds + max(seconds, 1e-6)
        self._latest = [*self._latest[-1:], (tokens, seconds)]
        self.best = max(_BEST_DECAY * self.best, self.average)

    @property
    def average(self) -> float:
        """Over the last batches, newer ones weighted more."""
        return max(self._tokens / self._seconds, 1e-3) if self._seconds else UNKNOWN_RATE

    @property
    def current(self) -> float:
        """The average, and less as soon as the model has become slow."""
        if not self._seconds:
            return UNKNOWN_RATE
        read = [(sum(n for n, _ in self._latest), sum(s for _, s in self._latest))]
        if self._batch is not None:
            tokens, since = self._batch
            read.append((tokens, time.monotonic() - since))
        latest = min(tokens / max(seconds, 1e-6) for tokens, seconds in read)
        return max(min(self.average, _MOST_OVER_LATEST * latest), 1e-3)
