"""The engine: a bounded queue, fair batches, and one thread that owns the model."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import torch

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.service.engine.engine import Engine, EngineBounds, merge_wants, slice_signal
from tamis.service.engine.errors import OutOfTime, TooLarge, Unavailable, WorkerDied
from tests.probes.tiny import proxy as tiny_proxy
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import Gated, wait_until

WANT = Want((0, 1))


def script() -> ScriptedReader:
    return ScriptedReader.from_needles("b")


def prompts(reader, *texts: str, question: str = "why?"):
    ask = tokenize_question(reader.layout, question)
    return [Prompt(reader.layout.passage_tokens(text, [(0, len(text))]), ask) for text in texts]


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_requests_read_together_see_what_each_sees_alone(architecture, one_thread):
    """Different methods want different layers and rows; packing must change no bit that matters."""
    proxy = tiny_proxy(architecture)
    wants = [
        Want((0, 1)),
        Want((1, 3), ("last", "question")),
        Want((2,), ("sentence_means", "last")),
    ]
    texts = ["the thin cat. a bat in.", "a hat", "in the inn. the then."]
    asked = ["a?", "the inn?", "a hat? the cat sat. in?"]
    engine = Engine(lambda: tiny_proxy(architecture), EngineBounds(batch_tokens=4096))
    reader = engine.start()
    alone = [
        list(proxy.read(prompts(proxy, text, question=question), want))
        for text, want, question in zip(texts, wants, asked, strict=True)
    ]

    def ask(i: int):
        request, mine = engine.admit(10), prompts(reader, texts[i % 3], question=asked[i % 3])
        try:
            with request.as_current():
                return list(reader.read(mine, wants[i % 3]))
        finally:
            engine.release(request)

    with ThreadPoolExecutor(12) as pool:
        for i, signals in enumerate(pool.map(ask, range(24))):
            assert signals[0].layers == wants[i % 3].layers
            assert signals[0].rows == wants[i % 3].rows
            torch.testing.assert_close(
                signals[0].weights, alone[i % 3][0].weights, atol=1e-5, rtol=1e-4
            )
    engine.drain(5)


@pytest.mark.parametrize("question", ["Who came in?", "Who? We saw him. Or when?"])
def test_merged_wants_serve_each_want_and_a_slice_gives_it_back(question):
    wants = [
        Want((0, 2), ("last",)),
        Want((1, 2), ("question", "question_mean")),
        Want((1,), ("sentence_means", "last")),
    ]
    both = merge_wants(wants)
    assert both.layers == (0, 1, 2)
    reader = script()
    (prompt,) = prompts(reader, "a b c", question=question)
    (whole,) = reader.read([prompt], both)
    for want in wants:
        (alone,) = reader.read([prompt], want)
        torch.testing.assert_close(slice_signal(whole, both, want, prompt).weights, alone.weights)


@contextmanager
def busy():
    """An engine whose worker has its hands full until the gate opens, and threads that ask it."""
    gated = Gated(script())
    engine = Engine(lambda: gated, EngineBounds(batch_tokens=4096))
    reader = engine.start()
    with ThreadPoolExecutor(8) as pool, gated:
        pool.submit(_read, engine, reader, "a")
        wait_until(lambda: gated.calls == 1)
        yield gated, engine, reader, pool
    engine.drain(5)


def test_a_batch_mixes_requests():
    with busy() as (gated, engine, reader, pool):
        for text in "bcdefgh":
            pool.submit(_read, engine, reader, text)
        wait_until(lambda: len(engine.queue._jobs) == 7)
        gated.open()
    assert sorted(map(len, gated.reads)) == [1, 7]


def test_a_request_of_many_prompts_waits_no_longer_than_one():
    with busy() as (gated, engine, reader, pool):
        began = time.monotonic()
        many = pool.submit(_read, engine, reader, *"bcdefghi")
        wait_until(lambda: len(engine.queue._jobs) > 0)
        time.sleep(0.3)
        gated.open()
        _, request = many.result()
        waited_ms = (time.monotonic() - began) * 1e3
    assert 200 <= request.queue_ms <= waited_ms


def _read(engine, reader, *texts: str, deadline: float | None = None):
    request = engine.admit(10, deadline=deadline)
    try:
        with request.as_current():
            return list(reader.read(prompts(reader, *texts), WANT)), request
    finally:
        engine.release(request)


def test_a_bad_prompt_fails_its_own_request_only():
    class Choosy(ScriptedReader):
        def read(self, prompts, want):
            if any(b"bad" in bytes(p.passage.ids) for p in prompts):
                raise ValueError("bad prompt")
            return super().read(prompts, want)

    def make():
        return Choosy(script().weigh)

    engine = Engine(make, EngineBounds(batch_tokens=4096))
    reader = engine.start()
    hold = threading.Event()
    engine._worker.observer.count_batch = lambda *_: hold.wait(0.2)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(_read, engine, reader, t) for t in ("a", "b", "bad", "c", "d")]
    assert [type(f.exception()).__name__ for f in found] == [
        "NoneType", "NoneType", "ValueError", "NoneType", "NoneType",
    ]  # fmt: skip
    engine.drain(5)


def test_too_many_tokens_are_refused_before_they_are_queued():
    engine = Engine(script, EngineBounds(max_request_tokens=50))
    reader = engine.start()
    with pytest.raises(TooLarge, match="at most 50"):
        _read(engine, reader, "x" * 100)
    assert engine.queue_load().tokens == 0
    engine.drain(5)


def test_a_deadline_ends_the_wait_and_keeps_what_was_read():
    gated = Gated(script(), batches=1)
    engine = Engine(lambda: gated, EngineBounds(batch_tokens=100))
    reader = engine.start()
    request = engine.admit(10, deadline=time.monotonic() + 1.5)
    with request.as_current(), pytest.raises(OutOfTime):
        list(reader.read(prompts(reader, "a" * 40, "b" * 40, "c" * 40), WANT))
    assert len(request.completed) == 1
    engine.release(request)
    gated.open()
    engine.drain(5)


def test_a_worker_that_hangs_is_given_up_and_replaced():
    made: list[Gated] = []

    def make() -> Gated:
        made.append(Gated(script(), batches=0 if not made else 100))
        return made[-1]

    engine = Engine(make, EngineBounds(stall_s=2.0))
    reader = engine.start()
    with pytest.raises(WorkerDied):
        _read(engine, reader, "a")
    wait_until(lambda: engine.ready and len(made) == 2)
    assert len(_read(engine, reader, "a")[0]) == 1
    made[0].open()
    engine.drain(5)


def test_a_drained_engine_has_served_everyone():
    engine = Engine(script, EngineBounds())
    reader = engine.start()
    with ThreadPoolExecutor(4) as pool:
        found = [pool.submit(_read, engine, reader, "a" * 50) for _ in range(20)]
        wait_until(lambda: any(f.done() for f in found))
        assert engine.drain(10)
        served = [f for f in found if f.exception() is None]
        refused = [f for f in found if f.exception() is not None]
    assert served
    assert all(isinstance(f.exception(), Unavailable) for f in refused)
    assert not engine.ready
