"""Overloads a service and checks its promises.

    make soak                       ten minutes
    python -m tests.soak.load --minutes 3

Requests of 0.5k to 16k tokens arrive at random at twice the rate that the service was measured to
manage. Promised: no crash and no 5xx, memory that grows by less than 5 %, at least 90 % of the
measured capacity served, refusals within 50 ms, and short requests whose 95th percentile is at most
three times what it is without load.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.service.http.test_serve import SCRIPT, answers, free_port

SIZES = (500, 500, 500, 500, 1000, 1000, 2000, 4000, 8000, 16000)
"""Tokens of a request; most are short, as in practice."""
SHORT, PASSAGE_TOKENS = 500, 250
WORDS = "keys rooms walls spring paint rotate every ninety days office network port default".split()
JSON = {"content-type": "application/json"}
QUESTION = "How often are keys rotated in the office?"


@dataclass
class Sent:
    """One request: its size, when it was sent, its status and duration."""

    tokens: int
    at: float
    status: int = 0
    seconds: float = 0.0


@dataclass
class Run:
    """The requests sent, and the memory of the service meanwhile."""

    sent: list[Sent] = field(default_factory=list)
    rss: list[tuple[float, int]] = field(default_factory=list)

    def of(self, status: int, tokens: int | None = None) -> list[float]:
        """Seconds of the requests with that status."""
        return [s.seconds for s in self.sent if s.status == status and tokens in (None, s.tokens)]


def request_body(tokens: int, chance: random.Random) -> bytes:
    """A request of about this many tokens, in passages that are new to the service."""

    def passage() -> str:
        words = (chance.choice(WORDS) for _ in range(PASSAGE_TOKENS - 10))
        text = " ".join(words)
        return f"{chance.random()} {text[:300]}. {text[300:700]}. {text[700:]}."

    documents = [passage() for _ in range(max(1, tokens // PASSAGE_TOKENS))]
    request = {"question": QUESTION, "documents": documents, "max_tokens": 100}
    return json.dumps(request).encode()


async def send_one(http: httpx.AsyncClient, run: Run, tokens: int, data: bytes) -> None:
    sent = Sent(tokens, time.monotonic())
    run.sent.append(sent)
    try:
        answer = await http.post("/v1/compress", content=data)
        sent.status = answer.status_code
    except httpx.HTTPError:
        sent.status = -1
    sent.seconds = time.monotonic() - sent.at


async def measure_capacity(http: httpx.AsyncClient, seconds: float, chance: random.Random) -> float:
    """Tokens per second served when requests are always waiting."""
    run, until = Run(), time.monotonic() + seconds
    began = time.monotonic()

    async def client() -> None:
        while time.monotonic() < until:
            tokens = chance.choice(SIZES)
            await send_one(http, run, tokens, request_body(tokens, chance))

    await asyncio.gather(*(client() for _ in range(4)))
    return sum(s.tokens for s in run.sent if s.status == 200) / (time.monotonic() - began)


async def unloaded_p95(http: httpx.AsyncClient, chance: random.Random, times: int = 12) -> float:
    """The 95th percentile in seconds of short requests sent one at a time."""
    run = Run()
    for _ in range(times):
        await send_one(http, run, SHORT, request_body(SHORT, chance))
    return p95(run.of(200))


async def overload(
    http: httpx.AsyncClient, pid: int, seconds: float, rate: float, chance: random.Random
) -> Run:
    """Sends requests at random times at `rate` tokens per second, served or not."""
    run, until, tasks = Run(), time.monotonic() + seconds, []
    mean = statistics.mean(SIZES)
    ready = [(t, request_body(t, chance)) for t in chance.choices(SIZES, k=200)]
    while time.monotonic() < until:
        await asyncio.sleep(chance.expovariate(rate / mean))
        tokens, data = chance.choice(ready)
        # a new first passage suffices to make the request new to the service
        fresh = data.replace(b'"documents": ["', b'"documents": ["%d ' % chance.getrandbits(60))
        tasks.append(asyncio.ensure_future(send_one(http, run, tokens, fresh)))
        run.rss.append((time.monotonic(), resident_bytes(pid)))
    await asyncio.gather(*tasks)
    return run


def resident_bytes(pid: int) -> int:
    """The resident memory of a process in bytes."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def p95(seconds: list[float]) -> float:
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))] if ordered else float("nan")


def memory_drift(rss: list[tuple[float, int]]) -> float:
    """The relative growth from the second quarter's median to the last quarter's."""
    sizes = [size for _, size in rss]
    quarter = max(1, len(sizes) // 4)
    return statistics.median(sizes[-quarter:]) / statistics.median(sizes[quarter : 2 * quarter]) - 1


async def soak(url: str, pid: int, minutes: float) -> dict[str, float]:
    """Runs all measurements and returns the figures."""
    chance = random.Random(7)
    limits = httpx.Limits(max_connections=500)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, headers=JSON) as http:
        alone = await unloaded_p95(http, chance)
        able = await measure_capacity(http, min(40.0, minutes * 15), chance)
        began = time.monotonic()
        run = await overload(http, pid, minutes * 60, 2 * able, chance)
        took = time.monotonic() - began
    good = sum(s.tokens for s in run.sent if s.status == 200) / took
    refused = run.of(429)
    return {
        "requests": len(run.sent),
        "served": len(run.of(200)),
        "refused": len(refused),
        "failed": len(run.sent) - len(run.of(200)) - len(refused),
        "capacity_tokens_s": able,
        "goodput_share": good / able,
        "refusal_p95_ms": p95(refused) * 1e3,
        "short_p95_unloaded_s": alone,
        "short_p95_s": p95(run.of(200, SHORT)),
        "short_p95_ratio": p95(run.of(200, SHORT)) / alone,
        "memory_drift": memory_drift(run.rss),
    }


PROMISED = {
    "failed": lambda v: v == 0,
    "goodput_share": lambda v: v >= 0.9,
    "refusal_p95_ms": lambda v: v < 50,
    "short_p95_ratio": lambda v: v <= 3,
    "memory_drift": lambda v: v < 0.05,
}


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--minutes", type=float, default=10.0)
    words.add_argument("--threads", default=str(os.cpu_count() or 1))
    words.add_argument("flags", nargs="*", help="more flags for tamis serve, after --")
    given = words.parse_args()
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-c",
        SCRIPT,
        "serve",
        "--port",
        str(port),
        "--threads",
        given.threads,
    ]
    command += ["--methods", "question_rows,lexical", "--log-level", "error", *given.flags]
    process = subprocess.Popen(command)
    try:
        while not answers(url):
            if process.poll() is not None:
                return 1
            time.sleep(0.2)
        found = asyncio.run(soak(url, process.pid, given.minutes))
        alive = process.poll() is None and answers(url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    kept = True
    for name, value in found.items():
        held = PROMISED[name](value) if name in PROMISED else None
        kept = kept and held is not False
        print(f"{name:>22} {value:12.3f} {'' if held is None else 'ok' if held else 'NOT KEPT'}")  # noqa: T201
    print(f"{'alive at the end':>22} {alive}")  # noqa: T201
    return 0 if kept and alive else 1


if __name__ == "__main__":
    sys.exit(main())
