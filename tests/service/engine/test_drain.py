"""A drain serves what was admitted, also between two reads, refuses what comes and ends in time."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tamis.service.engine.engine import Engine, EngineBounds
from tamis.service.engine.errors import ClientDisconnected, LimitPassed, Unavailable, WorkerDied
from tests.compressors.features.test_stages import FP32, PASSAGES, QUESTION, UNITS, method_of
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.scripted import ScriptedReader
from tests.service.engine.test_engine import WANT, prompts
from tests.service.http.app_kit import wait_until

STAGES = ([1, 1e9, 1], [2, 1e9, 1], [3, 1e9, 1])
"""Every window goes on after each stage, so that a request reads several times."""
LIMIT_S = 30.0


class Pausing:
    """Holds a request before its second read, and each one after, until the test lets it go on."""

    def __init__(self, reader) -> None:
        self.reads, self.may_go_on, self._read = 0, threading.Event(), reader.read
        reader.read = self.read

    def read(self, prompts, want):
        self.reads += 1
        if self.reads > 1:
            assert self.may_go_on.wait(LIMIT_S)
            time.sleep(0.1)  # the worker finds an empty queue each time
        yield from self._read(prompts, want)


def started(load=tiny.proxy):
    engine = Engine(load, EngineBounds(batch_tokens=4096))
    return engine, engine.start()


def test_a_request_between_the_stages_of_a_gate_is_served_and_a_new_one_is_refused():
    engine, reader = started()
    plain = method_of(tiny.proxy(), *STAGES).scores(QUESTION, PASSAGES, UNITS)
    pausing = Pausing(reader)
    method = method_of(reader, *STAGES)
    request = engine.admit(1000)

    def serve():
        try:
            with request.as_current():
                return method.scores(QUESTION, PASSAGES, UNITS)
        finally:
            engine.release(request)

    with ThreadPoolExecutor(2) as pool:
        found = pool.submit(serve)
        wait_until(lambda: pausing.reads == 2)
        drained = pool.submit(engine.drain, LIMIT_S)
        wait_until(lambda: engine.queue._closed)
        time.sleep(0.3)  # the worker and its supervisor see an empty, closed queue
        with pytest.raises(Unavailable):
            engine.admit(1)
        assert not drained.done()
        pausing.may_go_on.set()
        assert found.result(LIMIT_S).values == pytest.approx(plain.values, abs=FP32)
        assert drained.result(LIMIT_S) is True
    assert pausing.reads > 2
    wait_until(lambda: not engine._worker.is_alive() and not engine._supervisor.is_alive())


def test_a_request_that_has_not_read_yet_is_served():
    engine, reader = started()
    request = engine.admit(10)
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(engine.drain, LIMIT_S)
        wait_until(lambda: engine.queue._closed)
        time.sleep(0.3)
        with request.as_current():
            assert len(list(reader.read(prompts(reader, "a", "b"), WANT))) == 2
        engine.release(request)
        assert drained.result(LIMIT_S) is True


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
def test_a_drain_ends_when_the_last_request_dies(how):
    engine, _ = started()
    request = engine.admit(10)
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(engine.drain, LIMIT_S)
        wait_until(lambda: engine.queue._closed)
        began = time.monotonic()
        if how == "is cancelled":
            request.end(ClientDisconnected("gone"))
        engine.release(request)
        assert drained.result(LIMIT_S) is True
    assert time.monotonic() - began < LIMIT_S / 2
    wait_until(lambda: not engine._worker.is_alive() and not engine._supervisor.is_alive())


def test_at_its_limit_a_drain_ends_what_is_left_and_returns():
    engine, reader = started()
    request = engine.admit(10)
    began = time.monotonic()
    assert engine.drain(0.3) is False
    assert time.monotonic() - began < LIMIT_S / 2
    with request.as_current(), pytest.raises(LimitPassed):
        list(reader.read(prompts(reader, "a"), WANT))
    wait_until(lambda: not engine._worker.is_alive() and not engine._supervisor.is_alive())


@pytest.mark.parametrize("is_closed", [False, True], ids=["in the delay before", "in the drain"])
def test_a_worker_that_dies_while_the_engine_drains_is_replaced(is_closed):
    """`tamis serve` reports that it drains and serves on for a while, before it closes."""
    dying = threading.Event()

    class Mortal(ScriptedReader):
        def read(self, prompts, want):
            if not dying.is_set():
                dying.set()
                raise SystemExit  # not an Exception: it ends the thread
            return super().read(prompts, want)

    engine, reader = started(lambda: Mortal(ScriptedReader.from_needles("b").weigh))
    first, second = engine.admit(10), engine.admit(10)
    engine.draining = True
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(engine.drain, LIMIT_S) if is_closed else None
        wait_until(lambda: engine.queue._closed or not is_closed)
        with first.as_current(), pytest.raises(WorkerDied):
            list(reader.read(prompts(reader, "a"), WANT))
        engine.release(first)
        with second.as_current():
            second.deadline = time.monotonic() + LIMIT_S
            assert len(list(reader.read(prompts(reader, "a"), WANT))) == 1
        engine.release(second)
        assert (drained.result(LIMIT_S) if drained else engine.drain(LIMIT_S)) is True
    assert engine.restarts == 1
