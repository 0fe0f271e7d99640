"""More work than a model can read in time is refused at once, with a time that holds."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.promise import FaultOutcome
from tests.service.http.app_kit import NEEDLE, QUESTION, SlowReader, busy_ratio, pointing, served

CLIENTS = 16
SPEEDS = (20_000.0, 2000.0, 700.0)
"""Tokens a second."""
LEAST_FAULTS = 30
RUN_S = 20.0
MOST_TIMES_LONGER = 3.0
"""A run takes on a busy machine; everything in it is as much slower as the machine."""


def run_client(
    url: str, number: int, until: float, log: list[tuple[int, bool]], timeout_s: float = 60.0
) -> None:
    """Sends requests until a time; after a refusal the same again, when it was told to."""
    draw = random.Random(number)
    with httpx.Client(base_url=url, timeout=timeout_s) as http:
        was_refused = False
        body: dict[str, Any] = {}
        while time.monotonic() < until:
            if not was_refused:
                rooms = " ".join(
                    f"Room {draw.random()} is blue." for _ in range(draw.randint(5, 60))
                )
                body = {"question": QUESTION, "documents": [rooms, NEEDLE], "max_tokens": 200}
            answer = http.post("/v1/compress", json=body)
            log.append((answer.status_code, was_refused))
            was_refused = answer.status_code == 429
            if was_refused:
                pause_s = int(answer.headers["retry-after"])
                if time.monotonic() + pause_s >= until:
                    return  # it would come back after the run
                time.sleep(pause_s)


def come_back(folder: Path, faults: int, draw: random.Random) -> FaultOutcome:
    """Has clients send more than three models of different speeds can read.

    Each runs until its share of refused requests came back; the fastest refuses few or none.
    """
    log: list[tuple[int, bool]] = []
    for tokens_per_second in SPEEDS:
        run_against(tokens_per_second, RUN_S * max(1.0, faults / LEAST_FAULTS), log)
    returned = [status for status, was_refused in log if was_refused]
    in_vain = len(returned) - returned.count(200)
    wrong = sum(status not in (200, 429) for status, _ in log)
    # of the few requests of a short run, one may come back in vain
    survived = len(returned) if in_vain <= 1 + 0.1 * len(returned) else returned.count(200)
    served_in_all = sum(status == 200 for status, _ in log)
    observed = f"{served_in_all} of {len(log)} answers were 200; {in_vain} came back in vain"
    return FaultOutcome(len(returned), survived, wrong, observed)


def run_against(tokens_per_second: float, seconds: float, log: list[tuple[int, bool]]) -> None:
    """Runs all clients against a service whose model has this speed, and logs their answers."""
    busy = busy_ratio()
    reader = SlowReader(pointing(), tokens_per_second / busy)
    with served(reader, timeout_s=6.0 * busy) as service:
        until = time.monotonic() + seconds * min(busy, MOST_TIMES_LONGER)
        clients = [
            threading.Thread(target=run_client, args=(service.url, i, until, log, 60.0 * busy))
            for i in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
