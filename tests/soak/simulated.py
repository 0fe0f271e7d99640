"""Clients against the queue alone, on a clock of its own: what promises are good for.

    python -m tests.soak.simulated

Each client sends a request when the last one is answered, and a refused one again when it was told
to. The model reads as fast as the scenario says. Seconds pass only in the simulation, so that the
figures do not depend on the machine; they are printed with promises and without.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch

from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.service.engine import queue as queue_module
from tamis.service.engine import request as request_module
from tamis.service.engine.errors import Overloaded, Refused
from tamis.service.engine.queue import RequestQueue
from tamis.service.engine.request import PromptJob, QueuedRequest
from tests.scripted import ScriptedReader
from tests.soak.load import SIZES

SHORT = range(100, 2200, 50)
WINDOW_TOKENS, BATCH_TOKENS = 256, 1024
TEMPLATE = ScriptedReader.from_needles("b").layout.template
SEEDS = range(6)


@dataclass(frozen=True)
class Scenario:
    """Clients and a model.

    Attributes:
        tokens_per_second: that the model reads, by the seconds since the start.
        sizes: tokens of a request. limit_s: after so long it fails.
        leave: the share of refused clients that do not come back with the same request.
    """

    name: str
    tokens_per_second: Callable[[float], float]
    sizes: tuple[int, ...] | range
    clients: int
    limit_s: float
    seconds: float = 200.0
    leave: float = 0.0


SCENARIOS = (
    Scenario("short, 2,000 tokens/s", lambda _: 2000, SHORT, 16, 6.0),
    Scenario("short, slower after 8 s", lambda s: 2600 if s < 8 else 260, SHORT, 16, 30.0),
    Scenario("500 to 16,000 tokens", lambda _: 1400, SIZES, 40, 60.0, 400.0),
    Scenario("the same, half leave", lambda _: 1400, SIZES, 40, 60.0, 400.0, 0.5),
)


@dataclass
class Clock:
    """Stands in for the module `time`."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@dataclass(eq=False)
class Sent:
    """A request of a client: how long it is, and whether it was refused before."""

    tokens: int
    key: int
    came_back: bool = False
    at: float = 0.0
    left: int = 0


@dataclass
class Simulation:
    """One run of a scenario; requests that ended, by how, with whether they had come back."""

    scenario: Scenario
    clock: Clock
    draw: random.Random
    promises: bool
    ended: Counter[tuple[str, bool]] = field(default_factory=Counter)
    short_s: list[float] = field(default_factory=list)
    tokens_served: int = 0

    def __post_init__(self) -> None:
        self.queue = RequestQueue(32_768, 128)
        self.queue.longest_s = self.scenario.limit_s
        self.queue.record_speed(256, 256 / self.scenario.tokens_per_second(0))
        self.requests: dict[QueuedRequest, Sent] = {}
        self.is_reading = False
        self._events: list[tuple[float, int, Callable[..., None], Any]] = []
        self._number = count()

    def run(self) -> None:
        for _ in range(self.scenario.clients):
            self.after(self.draw.random() / 5, self.send_another)
        while self._events and self._events[0][0] < self.scenario.seconds:
            self.clock.now, _, step, given = heapq.heappop(self._events)
            step(*given)

    def after(self, seconds: float, step: Callable[..., None], *given: Any) -> None:
        event = self.clock.now + seconds, next(self._number), step, given
        heapq.heappush(self._events, event)

    def send_another(self) -> None:
        self.send(Sent(self.draw.choice(self.scenario.sizes), self.draw.getrandbits(60)))

    def send(self, sent: Sent) -> None:
        limit_s, key = self.scenario.limit_s, sent.key if self.promises else None
        estimate = max(1, int(sent.tokens / self.draw.uniform(0.7, 1.4)))
        try:
            request = self.queue.admit(estimate, limit_s=limit_s, key=key)
        except Refused as error:
            self.refuse(sent, error)
            return
        try:
            self.queue.put(request, jobs := windows(request, sent.tokens))
        except Refused as error:
            self.queue.remove(request)
            self.refuse(sent, error)
            return
        sent.at, sent.left = self.clock.now, len(jobs)
        self.requests[request] = sent
        self.after(limit_s, self.expire, request)
        self.after(0.0, self.read)

    def refuse(self, sent: Sent, error: Refused) -> None:
        self.ended[type(error).__name__, sent.came_back] += 1
        leaves = not isinstance(error, Overloaded) or self.draw.random() < self.scenario.leave
        if leaves:
            self.after(0.01, self.send_another)
            return
        pause_s = max(1, math.ceil(error.retry_after_s or 1)) + self.draw.random() / 10
        self.after(pause_s, self.send, Sent(sent.tokens, sent.key, came_back=True))

    def expire(self, request: QueuedRequest) -> None:
        if sent := self.requests.pop(request, None):
            error = self.queue.late_error(request)
            self.queue.remove(request)
            self.refuse(sent, error or Overloaded("late", 1.0))

    def read(self) -> None:
        if self.is_reading or not self.queue._jobs:
            return
        batch = self.queue.take(BATCH_TOKENS)
        tokens, self.is_reading = sum(job.tokens for job in batch), True
        speed = self.scenario.tokens_per_second(self.clock.now) * self.draw.uniform(0.87, 1.15)
        self.after(tokens / speed, self.answer, batch, tokens, tokens / speed)

    def answer(self, batch: list[PromptJob], tokens: int, seconds: float) -> None:
        self.is_reading = False
        for job in batch:
            self.queue.finish(job)
            if sent := self.requests.get(job.request):
                sent.left -= 1
                if not sent.left:
                    self.serve(self.requests.pop(job.request), job.request)
        self.queue.record_speed(tokens, seconds)
        for request in [r for r in self.requests if r.fault is not None]:
            self.queue.remove(request)
            assert request.fault is not None
            self.refuse(self.requests.pop(request), request.fault)
        self.after(0.0, self.read)

    def serve(self, sent: Sent, request: QueuedRequest) -> None:
        self.queue.remove(request)
        self.ended["served", sent.came_back] += 1
        self.tokens_served += sent.tokens
        if sent.tokens == min(self.scenario.sizes):
            self.short_s.append(self.clock.now - sent.at)
        self.after(0.02, self.send_another)


def windows(request: QueuedRequest, tokens: int) -> list[PromptJob]:
    """The prompts of a request."""
    sizes = [WINDOW_TOKENS] * (tokens // WINDOW_TOKENS) + [tokens % WINDOW_TOKENS]
    prompt = Prompt(PassageTokens((), 0, ()), QuestionTokens((1,), 0))
    return [PromptJob(request, prompt, Want((0,)), TEMPLATE, n, None) for n in sizes if n]


def simulate(scenario: Scenario, promises: bool, seed: int) -> Simulation:
    """One run."""
    clock = Clock()
    with patch.object(queue_module, "time", clock), patch.object(request_module, "time", clock):
        made = Simulation(scenario, clock, random.Random(seed), promises)
        made.run()
    return made


def returned_share(runs: list[Simulation]) -> float:
    """Of the requests that came back when they were told to, those that were served."""
    ended = sum((run.ended for run in runs), Counter[tuple[str, bool]]())
    returned = sum(n for (_, came_back), n in ended.items() if came_back)
    return ended["served", True] / returned if returned else math.nan


def main() -> int:
    for scenario in SCENARIOS:
        for promises in (True, False):
            runs = [simulate(scenario, promises, seed) for seed in SEEDS]
            tokens = sum(run.tokens_served for run in runs) / len(runs) / scenario.seconds
            short = sorted(s for run in runs for s in run.short_s)
            p99 = short[int(0.99 * (len(short) - 1))]
            sys.stdout.write(
                f"{scenario.name:24} {'with' if promises else 'without':>8} promises: "
                f"{returned_share(runs):.2f} of those that came back served, "
                f"{tokens:5.0f} tokens/s, p99 of the shortest {p99:4.1f} s\n"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
