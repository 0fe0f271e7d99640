"""Sixteen clients for a minute, at full speed and slowed to a tenth: nobody waits in vain.

    python -m tests.soak.overload
    python -m tests.soak.overload --seconds 60 --shares 1,0.1

A real `tamis serve` process with the default method; slowed, it is stopped for nine tenths of every
tenth of a second. Clients send requests of some 100 to 1,000 tokens as fast as they are answered,
and after a 429 the same again when `Retry-After` says. Promised: no 5xx, and nine in ten of those
that come back are served.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass

from tests.chaos.come_back import CLIENTS, run_client
from tests.service.http.app_kit import wait_until
from tests.service.http.test_serve import SCRIPT, answers, free_port

MOST_IN_VAIN = 0.1
_PERIOD_S = 0.1


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one run: answers by status, requests that came back after a 429, and those served then."""

    statuses: Counter[int]
    returned: int
    served: int

    @property
    def kept(self) -> bool:
        """Whether nobody got a 5xx, and those who came back in time were served."""
        in_vain = self.returned - self.served
        return max(self.statuses) < 500 and in_vain <= MOST_IN_VAIN * self.returned

    def __str__(self) -> str:
        shown = ", ".join(f"{n} × {status}" for status, n in sorted(self.statuses.items()))
        return f"{shown}; of {self.returned} that came back {self.served} were served"


class Throttle(threading.Thread):
    """Lets a process run for a share of the time."""

    def __init__(self, pid: int, share: float) -> None:
        super().__init__(daemon=True)
        self.pid, self.share = pid, share
        self.is_done = threading.Event()

    def run(self) -> None:
        while self.share < 1 and not self.is_done.is_set():
            os.kill(self.pid, signal.SIGCONT)
            time.sleep(_PERIOD_S * self.share)
            os.kill(self.pid, signal.SIGSTOP)
            time.sleep(_PERIOD_S * (1 - self.share))
        os.kill(self.pid, signal.SIGCONT)


def overload(url: str, pid: int, seconds: float, share: float) -> Figures:
    """Sixteen clients against a running service."""
    throttle, log = Throttle(pid, share), list[tuple[int, bool]]()
    throttle.start()
    until = time.monotonic() + seconds
    clients = [
        threading.Thread(target=run_client, args=(url, number, until, log, 600.0))
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    throttle.is_done.set()
    throttle.join()
    returned = [status for status, was_refused in log if was_refused]
    return Figures(Counter(status for status, _ in log), len(returned), returned.count(200))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--seconds", type=float, default=60.0)
    words.add_argument("--shares", default="1,0.1", help="of the time that the service runs")
    given, is_kept = words.parse_args(), True
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", SCRIPT, "serve", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: answers(url) or process.poll() is not None, 600)
        for share in map(float, given.shares.split(",")):
            figures = overload(url, process.pid, given.seconds, share)
            is_kept = is_kept and figures.kept
            verdict = "kept" if figures.kept else "NOT KEPT"
            sys.stdout.write(f"share {share:g} of the time: {figures}: {verdict}\n")
            sys.stdout.flush()
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
