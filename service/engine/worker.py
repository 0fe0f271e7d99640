"""The thread that owns the model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Protocol

import torch

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import RowGroup, Signal, Want
from tamis.service.engine.errors import Refused
from tamis.service.engine.queue import RequestQueue
from tamis.service.engine.request import PromptJob

_ROW_GROUPS: tuple[RowGroup, ...] = ("question", "question_mean", "sentence_means", "last")


class EngineObserver(Protocol):
    """Is notified of batches and restarts, for the metrics."""

    def count_batch(self, tokens: int, prompts: int, seconds: float) -> None:
        """A batch was read."""
        ...

    def count_restart(self) -> None:
        """A worker died and was replaced."""
        ...


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
        self.queue, self.load, self.batch_tokens, self.observer = (
            queue,
            load,
            batch_tokens,
            observer,
        )
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
