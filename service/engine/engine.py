"""The engine: a request queue, a worker thread that owns the model, and its supervisor."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tamis.compressors.reading.long_range import innermost_reader
from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import Prompt
from tamis.service.engine.errors import LimitPassed, Overloaded, Unavailable, WorkerDied
from tamis.service.engine.queue import QueueLoad, RequestQueue
from tamis.service.engine.reader import EngineReader
from tamis.service.engine.request import QueuedRequest
from tamis.service.engine.worker import EngineObserver, Worker

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


class NullObserver:
    """An observer that records nothing."""

    def count_batch(self, tokens: int, prompts: int, seconds: float) -> None:
        """Does nothing."""

    def count_restart(self) -> None:
        """Does nothing."""


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
        self._observer: EngineObserver = observer or NullObserver()
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

    @property
    def thread_id(self) -> int | None:
        """The id of the thread that owns the model."""
        return self._worker.ident

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

    def late_error(self, request: QueuedRequest) -> Overloaded | None:
        """The error of a request that expired before all of it was read; None if it was read."""
        return self.queue.late_error(request)

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
