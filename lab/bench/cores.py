"""`tamis lab bench cores`: what one process, or one copy a core, answers on more cores than here.

Measured here: requests with one thread, with all threads, and in one process a core at a time.

    one process   s + w / c    s what a request does one step at a time, w what c threads share
    copies        (s + w) / e  one thread each; e what a copy keeps of its speed beside the others

s and w follow from the times with one thread and with all of them (Amdahl, "Validity of the Single
Processor Approach to Achieving Large Scale Computing Capabilities", 1967). Requests then arrive at
random (Poisson) at a simulated queue, first come, first served, and each copy takes the next that
waits. Departures from a machine of so many cores: its memory is shared by more than were measured,
and the interpreter's other threads are taken to do nothing meanwhile.
"""

from __future__ import annotations

import heapq
import os
import random
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from threading import Barrier
from typing import Annotated, Any

import torch
import typer

from tamis.compressors import registry
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import DEFAULT, build_method, layers_needed
from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.speed import WorkloadText, example_text
from tamis_lab.bench.study import Study, table
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench cores`

`tamis lab bench cores --tokens 8000 --cores 1,4,16,64 --load .5`

Nothing else should run meanwhile. --load is a share of what the copies can answer at most.
"""
_KEEP_RATIO = 0.2
_WARM_UP = 2
"""Requests that are not timed."""
_ARRIVALS = 20_000


@report_errors()
def cores(
    numbers: Annotated[str, typer.Option("--cores", help="With commas.")] = "1,2,4,8,16",
    tokens: Annotated[int, typer.Option(min=1, help="Of the context of a request.")] = 2000,
    passage_tokens: Annotated[int, typer.Option(min=1, help="Of each passage.")] = 170,
    requests: Annotated[int, typer.Option(min=1, help="That are timed, each of three ways.")] = 16,
    load: Annotated[float, typer.Option(help="Arrivals, as a share of the most.")] = 0.7,
    proxy: shared.ProxyName = shared.SHARP,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
) -> None:
    """Requests a second and their latency on more cores, by simulation of the queue."""
    if not 0 < load < 1:
        raise BadInput(f"load is {load:g}; give a share above 0 and below 1")
    sizes, here = shared.parse_sizes(numbers), len(os.sched_getaffinity(0))
    work = partial(time_requests, proxy, tokens, passage_tokens, requests, seed)
    study = Study(as_json)
    with study.bars():
        alone = _in_processes(work, 1, 1)[0]
        study.advance("timing", 1, 3)
        shared_by_all = _in_processes(work, 1, here)[0]
        study.advance("timing", 1, 3)
        beside = _in_processes(work, here, 1)
        study.advance("timing", 1, 3)
    split = Split.from_times(alone, shared_by_all, here, beside)
    rows = {c: simulate(split, alone, c, load, seed) for c in sizes}
    figures = {
        "cores_here": here,
        "alone_s": alone,
        "all_threads_s": shared_by_all,
        "beside_s": beside,
        "serial_share": split.serial_share,
        "kept_speed": split.kept_speed,
        "cores": rows,
    }
    study.publish(figures, lambda: _report(split, alone, here, load, rows))


def _report(
    split: Split, alone: Sequence[float], here: int, load: float, rows: dict[int, dict[str, Any]]
) -> list[Any]:
    columns = ["cores", "most/s", "p50 ms", "p95 ms", "most/s", "p50 ms", "p95 ms"]
    cells = [
        [str(c), *(_cell(row[way], name) for way in ("process", "copies") for name in row[way])]
        for c, row in rows.items()
    ]
    title = f"One process, then one copy a core, at {load:.0%} of their most"
    return [
        f"A request takes {statistics.median(alone) * 1e3:,.0f} ms with one thread; "
        f"{split.serial_share:.0%} of it is one step at a time. One of {here} copies keeps "
        f"{split.kept_speed:.0%} of its speed.",
        table(title, columns, cells),
    ]


def _cell(figures: dict[str, float], name: str) -> str:
    return f"{figures[name]:,.2f}" if name == "per_s" else f"{figures[name]:,.0f}"


@dataclass(frozen=True, slots=True)
class Split:
    """How the time of a request is divided.

    Attributes:
        serial_share: of the time with one thread, what more threads do not shorten, from 0 to 1.
        kept_speed: what a copy keeps of its speed while every core has one, up to 1.
    """

    serial_share: float
    kept_speed: float

    @classmethod
    def from_times(
        cls,
        alone: Sequence[float],
        shared_by_all: Sequence[float],
        threads: int,
        beside: Sequence[Sequence[float]],
    ) -> Split:
        """The split that explains the medians of three measurements of the same requests."""
        one, all_of_them = statistics.median(alone), statistics.median(shared_by_all)
        share = 1.0
        if threads > 1:
            share = (threads * all_of_them / one - 1) / (threads - 1)
        slowest = statistics.median([seconds for copy in beside for seconds in copy])
        return cls(min(1.0, max(0.0, share)), min(1.0, one / slowest))

    def seconds(self, alone_s: float, threads: int) -> float:
        """What a request takes that takes `alone_s` with one thread."""
        return alone_s * (self.serial_share + (1 - self.serial_share) / threads)


def simulate(
    split: Split, alone: Sequence[float], cores: int, load: float, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Requests a second at most, and latencies at a share of the most, of both ways."""
    process = [split.seconds(one, cores) for one in alone]
    copies = [one / (split.kept_speed if cores > 1 else 1) for one in alone]
    return {
        "process": _queue_figures(process, 1, load, seed),
        "copies": _queue_figures(copies, cores, load, seed),
    }


def _queue_figures(
    service_s: Sequence[float], servers: int, load: float, seed: int
) -> dict[str, float]:
    most = servers / statistics.mean(service_s)
    waited = sorted(latencies(service_s, servers, load * most, _ARRIVALS, seed))
    return {
        "per_s": most,
        "p50_ms": waited[len(waited) // 2] * 1e3,
        "p95_ms": waited[len(waited) * 95 // 100] * 1e3,
    }


def latencies(
    service_s: Sequence[float], servers: int, per_s: float, arrivals: int, seed: int = 0
) -> list[float]:
    """Seconds from arrival to answer at a queue with Poisson arrivals, first come, first served.

    Args:
        service_s: times that a request may take, each as likely as the others.
        servers: that take the next request as soon as they are free. per_s: arrivals.
    """
    drawn, now = random.Random(seed), 0.0
    free_at, found = [0.0] * servers, []
    for _ in range(arrivals):
        now += drawn.expovariate(per_s)
        done = max(now, heapq.heappop(free_at)) + drawn.choice(service_s)
        heapq.heappush(free_at, done)
        found.append(done - now)
    return found


_all_ready: Any = None


def _share_barrier(barrier: Barrier) -> None:
    global _all_ready
    _all_ready = barrier


def _in_processes(work: Any, processes: int, threads: int) -> list[list[float]]:
    """The times of each of several processes that work at once."""
    context = get_context("spawn")
    barrier = context.Barrier(processes)
    with ProcessPoolExecutor(processes, context, _share_barrier, (barrier,)) as pool:
        return list(pool.map(work, [threads] * processes))


def time_requests(
    proxy: str, tokens: int, passage_tokens: int, requests: int, seed: int, threads: int
) -> list[float]:
    """Seconds of each request, none of whose passages was read before; for a process of its own."""
    torch.set_num_threads(threads)
    prose, name = example_text()
    model = registry.load_proxy(proxy, layers_needed(DEFAULT, proxy))
    method = build_method(DEFAULT, proxy=model)
    compressor = Compressor(method, DEFAULT, model.layout.tokenizer)
    found = []
    for number in range(_WARM_UP + requests):
        if number == _WARM_UP and _all_ready is not None:
            _all_ready.wait()
        text = WorkloadText(prose, name, model.layout, passage_tokens, seed + number)
        passages, question = text.passages(tokens), text.question(number)
        clock = time.perf_counter()
        compressor.compress(question, passages, Budget(max(1, int(tokens * _KEEP_RATIO))))
        found.append(time.perf_counter() - clock)
    return found[_WARM_UP:]
