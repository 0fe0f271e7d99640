"""A long question is read behind every window: what that costs, and who pays."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np
import pytest
import torch

from tamis.probes.prompt import PassageTokens, Paused, Prompt, QuestionTokens
from tamis.probes.signal import Signal, Want
from tamis.service.engine import engine as engine_module
from tamis.service.engine import queue as queue_module
from tamis.service.engine import request as request_module
from tamis.service.engine.engine import Engine, EngineBounds
from tamis.service.engine.errors import Overloaded, TooLong
from tamis.service.engine.queue import RequestQueue
from tamis.service.http.runtime.executor import estimate_tokens
from tests.scripted import ScriptedReader
from tests.service.engine.test_queue import Clock, job

LIMIT_S, LAYERS = 60.0, 20
ROWS, COSTS = [0, 100, 300, 700, 1000, 2000, 3000], [1, 1, 1.2, 1.75, 3, 5, 7.2]
"""How much a token cost on a CPU (SmolLM2-135M, one thread) behind questions of so many tokens."""
ORDINARY = 10, 22


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (queue_module, request_module, engine_module):
        monkeypatch.setattr(module, "time", made)
    return made


class TimedReader(ScriptedReader):
    """Takes as long as a proxy of 30 layers and so many tokens a second, and reads nothing."""

    depth, can_pause = 30, True
    clock: Clock
    speed = 700.0

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        for prompt in prompts:
            cost = float(np.interp(len(prompt.question.ids), ROWS, COSTS)) * len(prompt)
            self.clock.sleep(cost * (want.depth - prompt.first_layer) / self.depth / self.speed)
            paused = Paused(torch.zeros(len(prompt), 1), want.depth) if want.pause else None
            yield Signal(torch.zeros(1), want.layers, want.rows, 0, paused)


def read_on(windows: int) -> int:
    """How many windows the gate that ships has read to the end at the least."""
    return ceil(1.5 * windows**0.625) if windows >= 10 else windows


def seconds_to_read(question: int, windows: int, speed: float) -> float:
    """What `TimedReader` takes for so many windows."""
    layers = 4 * windows + (LAYERS - 4) * read_on(windows)
    cost = float(np.interp(question, ROWS, COSTS)) * (question + 40)
    return cost * layers / TimedReader.depth / speed


class Service:
    """An engine whose gate has as few windows read on as one does."""

    def __init__(self, clock: Clock, speed: float) -> None:
        self.clock, script = clock, TimedReader(lambda q, p: [1.0] * len(p), layers=30)
        script.clock, script.speed = clock, speed
        self.engine = Engine(lambda: script, EngineBounds(stall_s=1e9))
        self.reader = self.engine.start()
        self.queue = self.engine.queue
        self.queue.longest_s = LIMIT_S

    def ask(self, question: int, windows: int) -> float:
        """Seconds until windows of 40 tokens are read behind a question, or the queue's error."""
        began, texts = self.clock.now, ["x" * 160] * windows
        tokens = estimate_tokens("q" * 4 * question, texts)
        request = self.engine.admit(tokens, limit_s=LIMIT_S, key=question * 1000 + windows)
        ask, read = QuestionTokens((9,) * question, 0), PassageTokens((7,) * 40, 0, ((0, 1),))
        prompts, depth = [Prompt(read, ask)] * windows, 4 if windows >= 10 else LAYERS
        try:
            with request.as_current():
                first = Want(tuple(range(depth)), ("sentence_means",), pause=depth < LAYERS)
                paused = [one.paused for one in self.reader.read(prompts, first)]
                on = [Prompt(read, ask, one) for one in paused if one is not None]
                deeper = Want(tuple(range(4, LAYERS)), ("sentence_means",))
                list(self.reader.read(on[: read_on(windows)], deeper))
            return self.clock.now - began
        finally:
            self.engine.release(request)


@pytest.mark.parametrize("seed", range(12))
def test_a_long_question_is_read_in_time_or_refused_at_once_and_is_nobody_elses_matter(
    seed: int, clock: Clock
):
    rng = random.Random(seed)
    speed = rng.uniform(300, 2000)
    service = Service(clock, speed)
    for _ in range(4):
        service.ask(*ORDINARY)
    usual, refused = service.ask(*ORDINARY), 0
    for _ in range(12):
        began, question, windows = clock.now, rng.randrange(10, 3000), rng.randrange(1, 60)
        needs = seconds_to_read(question, windows, speed) / LIMIT_S
        try:
            service.ask(question, windows)
            assert needs < 1.25, (question, windows)
        except TooLong:  # what cannot be read: not one that comes back
            refused += 1
            assert needs > 0.75, (question, windows)
            assert needs < 1.25 or clock.now - began < 1.0, (question, windows)
        assert 0.7 < service.queue.rate.current / speed < 1.5, (question, windows)
        assert service.ask(*ORDINARY) == pytest.approx(usual)
    assert refused
    service.engine.drain(5)


def test_the_hunted_one_is_refused_with_its_figures_and_others_are_served(clock: Clock):
    service = Service(clock, 500.0)
    service.ask(*ORDINARY)
    with pytest.raises(TooLong, match=r"tokens to read, .* 60 s is the most; send a shorter qu"):
        service.ask(2000, 30)
    for _ in range(3):
        service.ask(*ORDINARY)
    service.engine.drain(5)


def test_how_large_requests_are_is_learnt_from_all_of_their_parts():
    """One that is read in stages gives a few tokens first; others are not judged by those."""
    request_queue = RequestQueue(100_000, 100)
    request_queue.record_speed(1000, 1.0)
    for _ in range(20):
        request = request_queue.admit(1000, limit_s=60.0)
        for tokens in (200, 800):
            request_queue.put(request, [job(request, tokens)])
            request_queue.finish(request_queue.take(1000)[0])
        request_queue.remove(request)
    for _ in range(8):  # of 1,000 tokens each, in 60 s
        request_queue.admit(6000, limit_s=60.0)
    with pytest.raises(Overloaded):
        request_queue.admit(6000, limit_s=60.0)


def test_what_never_fits_is_not_told_to_come_back(clock: Clock):
    request_queue = RequestQueue(100_000, 100)
    request_queue.longest_s = 10.0
    for _ in range(5):
        request_queue.record_speed(1000, 1.0)
    request = request_queue.admit(1000, limit_s=10.0, key=1)
    request_queue.put(request, [job(request, 6000)])
    request_queue.finish(request_queue.take(6000)[0])
    clock.sleep(6.0)
    with pytest.raises(TooLong, match="11,000 tokens to read"):  # 6 of 10 seconds are over
        request_queue.put(request, [job(request, 5000)])
    request_queue.remove(request)
    request_queue.admit(9000, limit_s=10.0, key=2)  # nothing is promised to it
