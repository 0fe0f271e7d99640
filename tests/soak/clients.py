"""Sixteen clients against one: the gain in throughput from batching.

    python -m tests.soak.clients

Rounds of one client and of sixteen alternate over the same kinds of requests: cold ones of 1,000
tokens, short ones of less than 100, and warm ones whose passages are in the cache. Promised: at
least 1.0 times as many cold ones, 1.3 times as many short and warm ones.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.service.http.test_serve import SCRIPT, answers, free_port
from tests.soak.load import JSON, request_body

CLIENTS, ROUNDS = 16, 3
PROMISED = {"cold": 1.0, "short": 1.3, "warm": 1.3}
WARM_QUESTIONS = ("Who paints?", "Which port?", "How many days?", "Where is the wall?")


def cold_body(chance: random.Random) -> bytes:
    return request_body(1000, chance)


def short_body(chance: random.Random) -> bytes:
    facts = [f"Room {chance.randint(0, 10**9)} is grey. Keys are rotated every 90 days."]
    return json.dumps({"question": "How often?", "documents": facts, "max_tokens": 14}).encode()


def warm_maker(http: httpx.Client) -> Callable[[random.Random], bytes]:
    """A maker of questions about passages that are in the cache."""
    kept = [json.loads(request_body(1000, random.Random(seed))) for seed in range(4)]
    for each in kept:
        http.post("/v1/compress", json=each).raise_for_status()

    def warm(chance: random.Random) -> bytes:
        question = chance.choice(WARM_QUESTIONS)
        return json.dumps({**chance.choice(kept), "question": question}).encode()

    return warm


def requests_per_second(http: httpx.Client, bodies: list[bytes], clients: int) -> float:
    """Requests per second."""

    def send(data: bytes) -> None:
        http.post("/v1/compress", content=data).raise_for_status()

    began = time.monotonic()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(send, bodies))
    return len(bodies) / (time.monotonic() - began)


def speedup(http: httpx.Client, make: Callable[[random.Random], bytes], each: int) -> float:
    """Sixteen clients' rate divided by one client's; the median over rounds."""
    chance, found = random.Random(3), []
    for _ in range(ROUNDS):
        alone = requests_per_second(http, [make(chance) for _ in range(each)], 1)
        many = requests_per_second(http, [make(chance) for _ in range(each)], CLIENTS)
        found.append(many / alone)
    return statistics.median(found)


def main() -> int:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    flags = ["--methods", "question_rows", "--cache-bytes", "500000000", "--timeout-s", "600"]
    command = [sys.executable, "-c", SCRIPT, "serve", "--port", str(port), *flags, *sys.argv[1:]]
    process = subprocess.Popen(command)
    kept = True
    try:
        while process.poll() is None and not answers(url):
            time.sleep(0.2)
        limits = httpx.Limits(max_connections=CLIENTS)
        with httpx.Client(base_url=url, timeout=600, limits=limits, headers=JSON) as http:
            kinds = {
                "cold": (cold_body, 6),
                "short": (short_body, 48),
                "warm": (warm_maker(http), 32),
            }
            for name, (make, each) in kinds.items():
                found = speedup(http, make, each)
                kept = kept and found >= PROMISED[name]
                verdict = "ok" if found >= PROMISED[name] else "NOT KEPT"
                print(f"{name:>6} {found:6.2f} of {PROMISED[name]} {verdict}")  # noqa: T201
    finally:
        process.terminate()
        process.wait(60)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
