"""A hundred thousand small requests, and the memory of the service meanwhile.

    python -m tests.chaos.small_requests --requests 100000

A real `tamis serve` process, method `lexical`, real HTTP over kept connections. Memory is read
after every hundredth of the requests; the slope is fitted over the last four fifths (before,
caches fill), with its 95 % interval by bootstrap over blocks of neighbouring readings, which are
correlated.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from tests.chaos.promise import FaultOutcome
from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, wait_until
from tests.service.http.test_serve import SCRIPT, answers, free_port
from tests.soak.load import resident_bytes

WARM_UP, READINGS, LEAST_READINGS, CLIENTS, BLOCK, DRAWS = 2000, 100, 20, 4, 8, 2000
MOST_BYTES_A_REQUEST = 16.0
"""The limit of the interval's upper end: a million requests a day are then 16 MB."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Bytes a request, the ends of their 95 % interval, and the memory at the end."""

    bytes_a_request: float
    low: float
    high: float
    resident_bytes: int

    def __str__(self) -> str:
        memory = f"{self.resident_bytes / 1e6:.0f} MB"
        return (
            f"{self.bytes_a_request:.2f} [{self.low:.2f}, {self.high:.2f}] bytes a request, "
            f"{memory}"
        )


def fit_slope(requests: np.ndarray, rss: np.ndarray, draw: np.random.Generator) -> Slope:
    """The growth over the last four fifths: least squares, block bootstrap of the residuals."""
    first = len(rss) // 5
    x, y = requests[first:].astype(float), rss[first:].astype(float)
    fitted = np.polyfit(x, y, 1)
    residuals = y - np.polyval(fitted, x)
    starts = draw.integers(0, len(x) - BLOCK + 1, (DRAWS, -(-len(x) // BLOCK)))
    order = (starts[:, :, None] + np.arange(BLOCK)).reshape(DRAWS, -1)[:, : len(x)]
    again = np.polyval(fitted, x) + residuals[order]
    slopes = ((x - x.mean()) * (again - again.mean(1, keepdims=True))).sum(1)
    low, high = np.percentile(slopes / ((x - x.mean()) ** 2).sum(), [2.5, 97.5])
    return Slope(float(fitted[0]), float(low), float(high), int(rss[-1]))


def small_bodies(draw: random.Random, count: int = 512) -> list[bytes]:
    """Small requests, each with a unique sentence beside the one that answers."""

    def body() -> bytes:
        other = f"Room {draw.randrange(10**9)} is painted in spring."
        documents = [*DOCUMENTS[:1], f"{other} Nobody knows why."]
        asked = {
            "question": QUESTION,
            "documents": documents,
            "max_tokens": 12,
            "method": "lexical",
        }
        return json.dumps(asked).encode()

    return [body() for _ in range(count)]


class Client:
    """One kept connection, and the number of its wrong answers."""

    def __init__(self, port: int, bodies: list[bytes]) -> None:
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.bodies, self.wrong = bodies, 0

    def ask(self, times: int) -> None:
        """Sends `times` requests in turn on a new connection: an idle one may have been closed."""
        self.http.close()
        for turn in range(times):
            data = self.bodies[turn % len(self.bodies)]
            self.http.request("POST", "/v1/compress", data, {"content-type": "application/json"})
            answer = self.http.getresponse()
            outcome = answer.read()
            self.wrong += answer.status != 200 or NEEDLE.encode() not in outcome


def measure_slope(
    port: int, pid: int, requests: int, draw: random.Random, minutes: float
) -> tuple[int, int, Slope]:
    """How many requests were sent in that time, how many answers were wrong, and the slope."""
    clients = [Client(port, small_bodies(draw)) for _ in range(CLIENTS)]
    share = max(1, requests // READINGS // CLIENTS)
    _all_ask(clients, WARM_UP // CLIENTS)
    done, rss, until = [], [], time.monotonic() + 60 * minutes
    for reading in track(range(READINGS), "small requests", transient=True):
        _all_ask(clients, share)
        done.append((reading + 1) * share * CLIENTS)
        rss.append(resident_bytes(pid))
        if time.monotonic() > until and len(done) >= LEAST_READINGS:
            break
    found = fit_slope(np.array(done), np.array(rss), np.random.default_rng(0))
    return done[-1], sum(client.wrong for client in clients), found


def _all_ask(clients: list[Client], times: int) -> None:
    """All clients at the same time, `times` requests each; raises what any of them raised."""
    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(lambda client: client.ask(times), clients))


def run_small_requests(
    _: Path, requests: int, draw: random.Random, minutes: float = 60.0
) -> FaultOutcome:
    """Runs a service and sends as many requests as the time allows."""
    port = free_port()
    flags = ["--port", str(port), "--threads", "1", "--log-level", "error"]
    flags += ["--method", "lexical", "--methods", "lexical"]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "serve", *flags])
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}") or process.poll() is not None, 180)
        sent, wrong, found = measure_slope(port, process.pid, requests, draw, minutes)
    finally:
        process.send_signal(signal.SIGTERM)
        left = process.wait(60)
    flat = found.high <= MOST_BYTES_A_REQUEST and left == 0
    return FaultOutcome(sent, (sent - wrong) if flat else 0, wrong, str(found))


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--requests", type=int, default=100_000)
    words.add_argument(
        "--minutes", type=float, default=12.0, help="fewer are sent if it takes more"
    )
    given = words.parse_args()
    outcome = run_small_requests(Path(), given.requests, random.Random(0), given.minutes)
    sys.stdout.write(f"{outcome}\n")
    sys.exit(not outcome.kept)
