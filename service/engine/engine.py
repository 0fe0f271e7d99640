"""The engine: a request queue, a worker thread that owns the model, and its supervisor.

Methods read by an `EngineReader`, which acts like a proxy and reads through the queue. Below it the
model's own reader may keep passages, which makes prompts cheaper.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import groupby
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import torch

from tamis.compressors.features.gate import FLOOR_POWER
from tamis.compressors.reading.windows import CONTEXT_TOKENS, Reader, innermost_reader
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, Prompt, Template
from tamis.probes.signal import RowGroup, Signal, Want
from tamis.service.engine.errors import (
    LimitPassed,
    OutOfTime,
    Refused,
    TooLarge,
    Unavailable,
    WorkerDied,
)
from tamis.service.engine.queue import QueueLoad, RequestQueue
from tamis.service.engine.request import PromptJob, QueuedRequest, current_request

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import CachedReader, PassageCache

_ROW_GROUPS: tuple[RowGroup, ...] = ("question", "question_mean", "sentence_means", "last")
_LEAST_READ = 0.9
"""A gate has at least so many times N^.625 of N paused windows read through all layers."""


class EngineObserver:
    """Is notified of batches and restarts, for the metrics; this one records nothing."""

    def count_batch(self, tokens: int, prompts: int, seconds: float) -> None:
        """A batch was read."""

    def count_restart(self) -> None:
        """A worker died and was replaced."""


class Worker(threading.Thread):
    """Loads the model, then reads batch after batch until the queue is finished.

    Attributes:
        ready: set when the model is loaded and warm. load_error: why it could not be loaded.
        busy_since: when the current batch was begun; None between batches.
        fault: set by the supervisor if the thread is stuck or dead: its later answers are dropped.
    """

    def __init__(
        self,
        queue: RequestQueue,
        load: Callable[[], Reader],
        batch_tokens: int,
        observer: EngineObserver,
    ) -> None:
        super().__init__(name="tamis-model", daemon=True)
        self.queue, self.load = queue, load
        self.batch_tokens, self.observer = batch_tokens, observer
        self.ready = threading.Event()
        self.load_error: Exception | None = None
        self.busy_since: float | None = None
        self.fault: Refused | None = None
        self._batch: list[PromptJob] = []

    def run(self) -> None:
        """Loads the model and reads batches; returns when the queue is finished or on `abandon`."""
        try:
            reader = self.load()
        except Exception as error:
            self.load_error = error
            return
        self.ready.set()
        while not self.is_given_up():
            self._batch = self.queue.take(self.batch_tokens, self.is_given_up)
            if self.fault is not None:  # meanwhile: `abandon` may not have seen this batch
                self._fail_batch(self.fault)
                return
            if not self._batch:
                return
            self._process_batch(reader)
            self._batch = []

    def is_given_up(self) -> bool:
        """Whether the supervisor has given this thread up."""
        return self.fault is not None

    def abandon(self, fault: Refused) -> None:
        """Fails all prompts of the current batch; later answers of this thread are dropped."""
        self.fault = fault
        self._fail_batch(fault)
        self.queue.wake()

    def _fail_batch(self, fault: Refused) -> None:
        for job in self._batch:
            job.answers.put(fault)
            self.queue.finish(job)

    def _process_batch(self, reader: Reader) -> None:
        began = self.busy_since = time.monotonic()
        for request in {job.request for job in self._batch}:
            if request.submitted_at is not None:
                request.queue_ms += (began - request.submitted_at) * 1e3
        try:
            for jobs in _group_alike(self._batch):
                self._read(reader, jobs)
        finally:
            self.busy_since = None
        seconds = time.monotonic() - began
        tokens = sum(job.tokens for job in self._batch)
        self.queue.record_speed(tokens, seconds)
        now = time.monotonic()
        for request in {job.request for job in self._batch}:
            request.forward_ms += seconds * 1e3
            request.submitted_at = now
        self.observer.count_batch(tokens, len(self._batch), seconds)

    def _read(self, reader: Reader, jobs: Sequence[PromptJob]) -> None:
        """Reads jobs of one template together; if that fails, each request's jobs alone."""
        try:
            signals = _read_signals(reader, jobs)
        except Exception as error:
            if len({job.request for job in jobs}) == 1:
                self._answer(jobs, [error] * len(jobs))
                return
            for _, alone in groupby(jobs, key=lambda job: id(job.request)):
                self._read(reader, list(alone))
            return
        self._answer(jobs, signals)

    def _answer(self, jobs: Sequence[PromptJob], answers: Iterable[Signal | Exception]) -> None:
        if self.is_given_up():
            return
        for job, answer in zip(jobs, answers, strict=True):
            self.queue.finish(job)
            job.answers.put(answer)


def _group_alike(jobs: Sequence[PromptJob]) -> Iterator[list[PromptJob]]:
    """Groups of jobs that one pass can read, each request's jobs in order.

    They have the same template and begin with the same layer; those that pause end with the same.
    """
    groups: dict[tuple[Template, int, int | None], list[PromptJob]] = {}
    for job in jobs:
        pause = job.want.depth if job.want.pause else None
        key = job.template, job.prompt.first_layer, pause
        groups.setdefault(key, []).append(job)
    yield from groups.values()


def _read_signals(reader: Reader, jobs: Sequence[PromptJob]) -> list[Signal]:
    """Reads all jobs at once; each job's signal has only the layers and rows it asked for."""
    want = merge_wants([job.want for job in jobs])
    inner = reader.with_template(jobs[0].template)
    read = list(inner.read([job.prompt for job in jobs], want))
    return [slice_signal(s, want, job.want, job.prompt) for job, s in zip(jobs, read, strict=True)]


def merge_wants(wants: Sequence[Want]) -> Want:
    """One `Want` that covers all of these."""
    layers = sorted({layer for want in wants for layer in want.layers})
    rows = tuple(group for group in _ROW_GROUPS if any(group in want.rows for want in wants))
    return Want(tuple(layers), rows, pause=any(want.pause for want in wants))


def slice_signal(signal: Signal, read: Want, want: Want, prompt: Prompt) -> Signal:
    """The layers and rows of `want`, out of a signal read with more: `[L, H, R, N]`."""
    if read == want:
        return signal
    layers, question = _select(read.layers, want.layers), prompt.question
    many = {"question": question.rows, "sentence_means": max(1, len(question.sentences))}
    sizes = [many.get(group, 1) for group in read.rows]
    parts = dict(zip(read.rows, torch.split(signal.weights[layers], sizes, 2), strict=True))
    return Signal(
        torch.cat([parts[group] for group in want.rows], 2),
        want.layers,
        want.rows,
        signal.cached_tokens,
        signal.paused,
    )


def _select(read: Sequence[int], wanted: Sequence[int]) -> slice | list[int]:
    """Where the wanted layers are among those read: a slice if they adjoin, which copies nothing.

    A list is copied to the device and waited for.
    """
    places = [read.index(layer) for layer in wanted]
    adjoin = places == list(range(places[0], places[0] + len(places)))
    return slice(places[0], places[0] + len(places)) if adjoin else places


_POLL_S = 0.02
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineBounds:
    """Limits of the engine; `Settings` of the HTTP service describes each."""

    queue_tokens: int = 32768
    max_requests: int = 128
    max_request_tokens: int = 262144
    batch_tokens: int = 1024
    stall_s: float = 300.0


class Engine:
    """One model for many requests.

    Args:
        load: loads the model; called in the worker's own thread, and again if that dies.
        bounds: limits of the queue, of requests and of batches.
        observer: is notified of batches and restarts.
        tokens_to_read: tokens that reading a prompt costs; fewer than its length where a cache
            has some of them.
    """

    def __init__(
        self,
        load: Callable[[], Reader],
        bounds: EngineBounds | None = None,
        observer: EngineObserver | None = None,
        tokens_to_read: Callable[[Prompt], int] = len,
    ) -> None:
        self.bounds = bounds or EngineBounds()
        self.queue = RequestQueue(self.bounds.queue_tokens, self.bounds.max_requests)
        self.restarts = 0
        self.draining = False
        self._load, self._tokens_to_read = load, tokens_to_read
        self._observer = observer or EngineObserver()
        self._loaded: Reader | None = None
        self._stop = threading.Event()
        self._worker = self._new_worker()
        self._supervisor = threading.Thread(
            target=self._supervise, name="tamis-supervisor", daemon=True
        )

    def start(self, timeout_s: float = 600.0) -> EngineReader:
        """Loads the model and returns the reader for the methods.

        Raises:
            TamisError: the model could not be loaded.
        """
        self._worker.start()
        deadline = time.monotonic() + timeout_s
        while not self._worker.ready.wait(_POLL_S):
            if self._worker.load_error is not None:
                raise self._worker.load_error
            if not self._worker.is_alive() and not self._worker.ready.is_set():
                raise self._worker.load_error or Unavailable(
                    "the model's thread died while it loaded the model"
                )
            if time.monotonic() > deadline:
                raise Unavailable(f"the model was not loaded within {timeout_s:g} s")
        self._supervisor.start()
        assert self._loaded is not None  # the worker is ready
        reader, most = self._loaded, self.bounds.max_request_tokens
        return EngineReader(
            self.queue,
            reader.card,
            reader.layout,
            most,
            self._tokens_to_read,
            innermost_reader(reader),
        )

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and the service is not shutting down."""
        worker = self._worker
        return worker.is_alive() and worker.ready.is_set() and not self.draining

    def admit(
        self,
        tokens: int,
        priority: int = 0,
        deadline: float | None = None,
        limit_s: float | None = None,
        key: int | None = None,
    ) -> QueuedRequest:
        """Admits a request; the arguments are those of `RequestQueue.admit`.

        Raises:
            Overloaded: there is no room, or it would not be done in time. Unavailable: the model
                could not be loaded.
        """
        if self._worker.load_error is not None:
            raise Unavailable("the model cannot be loaded; it is tried again", 5.0)
        return self.queue.admit(tokens, priority, deadline, limit_s, key)

    def release(self, request: QueuedRequest) -> None:
        """Releases a request that has its answer, or whose client has gone."""
        self.queue.remove(request)

    def queue_load(self) -> QueueLoad:
        """How full the queue is."""
        return self.queue.load()

    def drain(self, timeout_s: float) -> bool:
        """Admits no more requests and serves those that were admitted.

        They may wait, tokenise or be between two reads; those that are left at the limit are ended.

        Returns:
            Whether all were served in time.
        """
        self.draining = True
        self.queue.close()
        served = self.queue.wait_until_empty(timeout_s)
        for request in self.queue.requests():
            request.end(LimitPassed("the service shut down before this was done", 1.0))
            self.queue.remove(request)
        self._stop.set()
        self._worker.join(1.0)
        return served

    def _new_worker(self) -> Worker:
        return Worker(self.queue, self._load_model, self.bounds.batch_tokens, self._observer)

    def _load_model(self) -> Reader:
        self._loaded = self._load()
        return self._loaded

    def _supervise(self) -> None:
        """Replaces a worker that died or is stuck, after a pause that grows if it dies again."""
        pause_s = 0.0
        while not self._stop.wait(_POLL_S):
            worker = self._worker
            if worker.is_alive() and not self._is_stuck(worker):
                if worker.ready.is_set() and worker.busy_since is None:
                    pause_s = 0.0
                continue
            if self._stop.is_set() or self.queue.is_finished:
                return
            worker.abandon(WorkerDied("the model's thread died with this request; try again", 1.0))
            if self._stop.wait(pause_s):
                return
            pause_s = min(max(1.0, 2 * pause_s), _LONGEST_PAUSE_S)
            self.restarts += 1
            self._observer.count_restart()
            self._worker = self._new_worker()
            self._worker.start()

    def _is_stuck(self, worker: Worker) -> bool:
        since = worker.busy_since
        return since is not None and time.monotonic() - since > self.bounds.stall_s


class EngineReader:
    """A `Reader` whose prompts are read together with those of other requests.

    It reads for the current request of its thread and holds no state of a request, so methods are
    built once over it.
    """

    def __init__(
        self,
        queue: RequestQueue,
        card: ModelCard,
        layout: Layout,
        max_request_tokens: int,
        tokens_to_read: Callable[[Prompt], int] = len,
        model: Any = None,
    ) -> None:
        """A reader over a queue.

        Args:
            tokens_to_read: tokens that reading a prompt costs.
            model: the model of the engine. Its attributes that methods use are copied: a reference
                would keep the model in memory after a restart has replaced it.
        """
        self.queue, self.card, self.layout = queue, card, layout
        self.max_request_tokens, self.tokens_to_read = max_request_tokens, tokens_to_read
        self.context_tokens: int = getattr(model, "context_tokens", CONTEXT_TOKENS)
        self.depth: int = getattr(model, "depth", card.layers)
        self.config: Any = getattr(model, "config", None)
        self._can_pause: bool = getattr(model, "can_pause", False)

    @property
    def can_pause(self) -> bool:
        """Whether prompts of the current request can be read in stages.

        A request with a deadline is not: what it has at the deadline are its first prompts, whole.
        """
        request = current_request()
        return self._can_pause and request is not None and request.deadline is None

    def with_template(self, template: Template) -> EngineReader:
        """A reader of the same engine with another prompt template."""
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order, as the model comes to it.

        Raises:
            TooLarge: more tokens than one request may have.
            Refused: the request was ended early. BadInput: the model cannot read a prompt.
        """
        if (request := current_request()) is None:
            raise BadInput(
                "the engine reads for requests; call it within QueuedRequest.as_current()"
            )
        if request.replaying:
            yield from _replay_signals(request, prompts)
            return
        self.check_size(sum(map(len, prompts)))
        answers: SimpleQueue[Signal | Exception] = SimpleQueue()
        template = self.layout.template
        jobs = [
            PromptJob(request, p, want, template, self._job_tokens(p, want), answers)
            for p in prompts
        ]
        request.send_faults_to(answers)
        least = 0.0
        if want.pause and not any(prompt.paused for prompt in prompts):
            tokens = sum(job.tokens for job in jobs)
            share = _LEAST_READ * len(jobs) ** (FLOOR_POWER - 1)
            least = tokens + share * tokens * (self.depth / want.depth - 1)
        self.queue.put(request, jobs, least)
        for job in jobs:
            yield request.wait_for(job)

    def check_size(self, tokens: int) -> None:
        """Checks the tokens of a request, which a reading in stages hands over in parts.

        Raises:
            TooLarge: more than one request may have.
        """
        if tokens > self.max_request_tokens:
            raise TooLarge(
                f"the request has {tokens:,} tokens and at most {self.max_request_tokens:,} are "
                "read; send fewer or shorter documents"
            )

    def _job_tokens(self, prompt: Prompt, want: Want) -> int:
        """Tokens that a job costs: a share for a part of the layers, more for a long question."""
        tokens = self.tokens_to_read(prompt)
        if prompt.paused is not None:
            tokens = len(prompt.paused.states)
        rows = 1 if want.rows == ("last",) else prompt.question.rows
        share = (want.depth - prompt.first_layer) / self.depth
        cost = tokens * share * question_weight(rows)
        in_stages = want.pause or prompt.paused is not None
        return max(1, int(cost) if in_stages else max(tokens, int(cost)))


def question_weight(rows: float) -> float:
    """How much more a token costs behind a question of so many tokens, whose rows are kept.

    On a CPU, with rows of all layers: 1.2 times as much with 300, 3 times with 1,000, 5 with 2,000.
    """
    return 1.0 + max(0.0, rows - 200) / 450


def _replay_signals(request: QueuedRequest, prompts: Sequence[Prompt]) -> Iterator[Signal]:
    """The signals that were read before the deadline.

    Raises:
        OutOfTime: a prompt that was not read then.
    """
    for prompt, (read, signal) in zip(prompts, request.completed, strict=False):
        if prompt != read:
            break
        yield signal
    else:
        if len(prompts) <= len(request.completed):
            return
    raise OutOfTime("this was not read in time")


class PromptCache:
    """What a service keeps of prompts: the passages, and what reading costs with them.

    Args:
        cache: None keeps nothing.
    """

    def __init__(self, cache: PassageCache | None) -> None:
        self.cache = cache
        self._reader: CachedReader | None = None

    def wrap(self, reader: Any) -> Reader:
        """A reader that uses the cache; one that cannot keep keys is returned unchanged."""
        if self.cache is None or not hasattr(reader, "read_with_kv"):
            unchanged: Reader = reader
            return unchanged
        from tamis.probes.kv_cache.cache import CachedReader

        self._reader = CachedReader(reader, self.cache)
        return self._reader

    def tokens_to_read(self, prompt: Prompt) -> int:
        """Tokens that reading a prompt costs: only the question's where the passage is kept."""
        if self.cache is None or self._reader is None:
            return len(prompt)
        is_kept = self.cache.holds(self._reader.key(prompt))
        return len(prompt.question.ids) if is_kept else len(prompt)
