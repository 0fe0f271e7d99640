"""Faults of the service: its model's thread dies, clients disconnect, overload, shutdown.

Every request gets an answer that is right, or one clear refusal; the next one is served.
"""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.promise import FaultOutcome
from tests.service.http.app_kit import (
    BODY,
    NEEDLE,
    Gated,
    Running,
    connected,
    pointing,
    served,
    wait_until,
)
from tests.service.http.runtime.test_faults import kill


def is_right(answer: httpx.Response) -> bool:
    """Whether the answer holds the sentence asked for, whole."""
    return answer.status_code == 200 and NEEDLE in answer.json()["text"]


def is_refusal(answer: httpx.Response, *codes: str) -> bool:
    """Whether it is a refusal of these, with the time to come back."""
    if answer.status_code not in (429, 503):
        return False
    return answer.json()["error"]["code"] in codes and int(answer.headers["retry-after"]) >= 1


def kill_workers(_folder: Path, times: int, _draw: random.Random) -> FaultOutcome:
    """The model's thread is killed while it reads one request and others wait."""
    gated = Gated(pointing())
    survived = lost = 0
    with served(gated, warmup=False) as service, ThreadPoolExecutor(4) as pool:
        engine = service.service_state.engine
        for _ in range(times):
            wait_until(lambda: engine.ready)
            calls, restarts = gated.calls, engine.restarts
            requests = [pool.submit(service.post, "/v1/compress", **BODY)]
            wait_until(lambda calls=calls: gated.calls == calls + 1)
            requests += [pool.submit(service.post, "/v1/compress", **BODY) for _ in range(2)]
            wait_until(lambda: engine.queue_load().requests == 3)
            kill(engine._worker.ident)
            gated.gate.release()  # a thread that waits for a lock dies when it gets it
            wait_until(lambda restarts=restarts: engine.restarts == restarts + 1)
            _open_until(gated, lambda requests=requests: all(f.done() for f in requests))
            answers = [future.result() for future in requests]
            wrong = sum(not (is_right(a) or is_refusal(a, "worker_died")) for a in answers)
            lost += wrong
            survived += not wrong and is_right(answers[1]) and engine.queue_load().tokens == 0
    return FaultOutcome(times, survived, lost, f"{3 * times} requests read or waiting")


def _open_until(gated: Gated, true: Callable[[], bool]) -> None:
    """Lets the model read until something holds, and closes the gate again."""
    while not true():
        gated.gate.release()
        time.sleep(0.002)
    while gated.gate.acquire(blocking=False):
        pass


def hang_up(_: Path, times: int, draw: random.Random) -> FaultOutcome:
    """Clients disconnect: in their headers, in their body, while they wait, or right after."""
    data = json.dumps(BODY).encode()
    head = (
        "POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode()
    sent = head + data
    where: Counter[str] = Counter()
    survived = 0
    with served() as service:
        engine = service.service_state.engine
        for _ in range(times):
            cut = draw.choice(
                [draw.randrange(1, len(head)), draw.randrange(len(head), len(sent)), -1]
            )
            where["whole request" if cut < 0 else "headers" if cut < len(head) else "body"] += 1
            with connected(service) as client:
                client.sendall(sent if cut < 0 else sent[:cut])
                time.sleep(draw.choice([0.0, 0.0, 0.002, 0.01]))
                if draw.random() < 0.5:  # a reset instead of a clean close
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            survived += is_right(service.post("/v1/compress", **BODY))
        wait_until(lambda: engine.queue_load().requests == 0)
        left = engine.queue_load().tokens
    return FaultOutcome(
        times, survived, int(left > 0), ", ".join(f"{n} in {k}" for k, n in where.items())
    )


def send_garbage(_: Path, times: int, draw: random.Random) -> FaultOutcome:
    """Bytes that are no HTTP, or HTTP with damaged bytes."""
    data = json.dumps(BODY).encode()
    head = (
        "POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    ).encode()
    survived = lost = 0
    seen: Counter[int] = Counter()
    with served(header_timeout_s=0.2, body_timeout_s=0.5) as service:
        for _ in range(times):
            if draw.random() < 0.3:
                data_sent = draw.randbytes(draw.randrange(1, 2000))
            else:
                damaged = bytearray(head + data)
                for _ in range(draw.randrange(1, 8)):
                    damaged[draw.randrange(len(head) - 4, len(damaged))] = draw.randrange(256)
                data_sent = bytes(damaged)
            status = _status(service, data_sent)
            seen[status] += 1
            lost += status >= 500
            survived += status < 500 and is_right(service.post("/v1/compress", **BODY))
    shown = ", ".join(f"{n} × {s or 'closed'}" for s, n in sorted(seen.items()))
    return FaultOutcome(times, survived, lost, shown)


def _status(service: Running, data_sent: bytes) -> int:
    """The status that answers these bytes; 0 where the connection is closed without an answer."""
    with connected(service) as client:
        try:
            client.sendall(data_sent)
            answer = client.recv(64)
        except ConnectionError:
            return 0
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/") else 0


def overload(_folder: Path, times: int, _draw: random.Random) -> FaultOutcome:
    """Waves of forty requests, eight admitted; each is answered right or refused at once."""
    refusals = lost = 0
    gated = Gated(pointing())
    with served(gated, warmup=False, max_requests=8) as service, ThreadPoolExecutor(40) as pool:
        ready = threading.Barrier(40)

        def client() -> httpx.Response:
            ready.wait()
            return service.post("/v1/compress", **BODY)

        waves = -(-times // 32)
        for _ in range(waves):
            requests = [pool.submit(client) for _ in range(40)]
            # none is read before the others are refused, so exactly eight are admitted
            wait_until(lambda requests=requests: sum(f.done() for f in requests) == 32)
            _open_until(gated, lambda requests=requests: all(f.done() for f in requests))
            answers = [future.result() for future in requests]
            good = sum(is_refusal(a, "overloaded") for a in answers)
            refusals += good
            lost += 40 - good - sum(map(is_right, answers))
        after = next_is_served(service, gated)
    return FaultOutcome(32 * waves, refusals if after else 0, lost, f"{40 * waves} requests")


def next_is_served(service: Running, gated: Gated) -> bool:
    """Whether the next request is served."""
    gated.open()
    return is_right(service.post("/v1/compress", **BODY))


def drain(_: Path, times: int, draw: random.Random) -> FaultOutcome:
    """Shutdown while four clients send without a pause: admitted requests are answered whole."""
    survived = lost = served_whole = 0
    for _ in range(times):
        torn, whole = _drain_once(draw.uniform(0.05, 0.3))
        survived += not torn
        lost += torn
        served_whole += whole
    return FaultOutcome(times, survived, lost, f"{served_whole} requests served whole")


def _drain_once(after_s: float) -> tuple[int, int]:
    """How many answers were torn, and how many whole, when a service shut down meanwhile."""
    found: list[Any] = []
    leaving = threading.Event()

    def client(url: str) -> None:
        with httpx.Client(base_url=url, timeout=30) as http:
            while True:
                try:
                    found.append(http.post("/v1/compress", json=BODY))
                except httpx.ConnectError:
                    return  # the service refuses connections
                except httpx.HTTPError as error:
                    # an idle kept connection may close under a request that was never admitted
                    idle = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError)
                    found.append(None if idle and leaving.is_set() else error)
                    return

    with ThreadPoolExecutor(4) as pool:
        with served() as service:
            clients = [pool.submit(client, service.url) for _ in range(4)]
            time.sleep(after_s)
            leaving.set()
        for each in clients:
            each.result(30)
    whole = sum(isinstance(one, httpx.Response) and is_right(one) for one in found)
    return sum(one is not None for one in found) - whole, whole
