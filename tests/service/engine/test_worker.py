"""The model's thread: it answers for what it took, also when it is given up or never gets ready."""

from __future__ import annotations

import time

import pytest

from tamis.service.engine.engine import Engine, EngineBounds, EngineObserver, EngineReader, Worker
from tamis.service.engine.errors import Unavailable, WorkerDied
from tamis.service.engine.queue import RequestQueue
from tests.scripted import ScriptedReader
from tests.service.engine.test_engine import WANT, prompts, script


def read_one(queue: RequestQueue, text: str):
    inner = script()
    reader = EngineReader(queue, inner.card, inner.layout, 10_000)
    request = queue.admit(10, deadline=time.monotonic() + 20)
    try:
        with request.as_current():
            return list(reader.read(prompts(reader, text), WANT))
    finally:
        queue.remove(request)


def worker_of(queue: RequestQueue) -> Worker:
    worker = Worker(queue, script, 4096, EngineObserver())
    worker.start()
    assert worker.ready.wait(20)
    return worker


def test_a_worker_that_is_given_up_while_it_waits_takes_no_prompts_from_its_successor():
    """It was found to be stuck at the very moment at which it was done."""
    queue = RequestQueue(10_000, 10)
    given_up = worker_of(queue)
    time.sleep(0.2)  # it waits for a batch
    given_up.abandon(WorkerDied("stuck", 1.0))
    worker_of(queue)
    for text in "abcdef":
        assert len(read_one(queue, text)) == 1
    given_up.join(20)
    assert not given_up.is_alive()
    queue.close()


def test_prompts_that_a_worker_took_as_it_was_given_up_are_answered():
    queue = RequestQueue(10_000, 10)
    take, workers = queue.take, []

    def take_and_be_given_up(*given):
        batch = take(*given)
        if batch:
            workers[0].abandon(WorkerDied("stuck", 1.0))
        return batch

    queue.take = take_and_be_given_up
    workers.append(worker_of(queue))
    with pytest.raises(WorkerDied):
        read_one(queue, "a")
    queue.close()


def test_an_engine_whose_thread_dies_as_it_loads_says_so_at_once():
    def load() -> ScriptedReader:
        raise SystemExit  # not an Exception, as a panic in Rust is none

    engine, began = Engine(load, EngineBounds()), time.monotonic()
    with pytest.raises(Unavailable, match="while it loaded"):
        engine.start(timeout_s=20)
    assert time.monotonic() - began < 15
