"""Hostile bodies, and how long `/livez` takes meanwhile.

    python -m tests.chaos --only hostile
    python -m tests.chaos.hostile --bodies 300

A real `tamis serve` process gets bodies that are large, deep, endless or shaped to take long, from
four clients at once; another client asks for `/livez` twenty times a second. Promised: no 5xx,
`/livez` within 100 ms 99 times in 100, and afterwards as much memory as before, give or take a
quarter.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.chaos.promise import FaultOutcome
from tests.service.http.app_kit import QUESTION, wait_until
from tests.service.http.test_serve import SCRIPT, answers, free_port
from tests.soak.load import resident_bytes

CLIENTS, ASKED_EVERY_S, WARM_UP = 4, 0.05, 20
REST_S = 15.0
"""Before memory is looked at: a service gives it back when it has had nothing to do for 10 s."""
MOST_P99_S, MOST_GROWTH = 0.1, 1.25
BODY_BYTES, TEXT_CHARS = 8_000_000, 1_400_000
"""About the largest body, and the longest text, that are not refused for their size alone."""
Body = tuple[str, bytes]


def _json(path: str, **fields: Any) -> Body:
    return path, json.dumps(fields).encode()


def _repeated(path: str, start: str, part: str, stop: str, size: int) -> Body:
    return path, (start + part * (size // len(part)) + stop).encode()


UNITS = (
    *(" ", "\n", "a", "A", "1", ".", ". ", "a. ", "A. ", "`", '"', "'", "(", "[", "<", "{", "|"),
    *("[a](", "![", "<p>a</p>", "<div>", "<p ", "|a|b|\n", "a,b\n", "a, ", "```\n", "# a\n"),
    *("- a\n", "1. a\n", "a: b\n", "a=", "def f():\n", "{}\n", '{"a": 1}\n', "你好。", "ก"),
    *("\u0301", "\u0316", "e\u0301", "\U0001f468\u200d", "\ud800", "\u00a0", "\u2028", "\r\n"),
    *("\t", "\x00", "http://a ", "a@b.c ", "2026-01-01 00:00:00 ERROR a\n", "user: a\n", "[1] "),
    *("<ttc_safe>", "--- a\n+++ b\n", "FAILED a.py::b\n", 'File "a.py", line 1\n', "a.b.c."),
    *("-", "_", "*", "#"),
)
"""Texts are made of one of these, or of two, over and over."""


def _text(draw: random.Random) -> str:
    parts = draw.sample(UNITS, draw.choice((1, 1, 2)))
    size = int(TEXT_CHARS * draw.choice((0.1, 0.3, 1.0)))
    if draw.random() < 0.5:  # one long run of each
        return "".join(part * (size // len(parts) // len(part)) for part in parts)
    whole = "".join(parts)
    return whole * (size // len(whole))


def _of_text(draw: random.Random) -> Body:
    text, html = _text(draw), draw.random() < 0.2
    shapes: list[Callable[[], Body]] = [
        lambda: _json("/v1/compress", question=QUESTION, documents=[text], max_tokens=100),
        lambda: _json("/v1/compress", query=QUESTION, input=text),
        lambda: _json("/v1/rerank", query=QUESTION, documents=[text, "a"]),
        lambda: _json("/rerank", query=QUESTION, texts=[text, "a"]),
        lambda: _json("/score", text_1=QUESTION, text_2=text),
        lambda: _json("/tokenize", prompt=text),
        lambda: _json("/v1/explain", question=QUESTION, documents=[text], max_tokens=100),
        lambda: _json("/v1/compress", messages=_tool_result(text)),
        lambda: _json(
            "/v1/expand", documents=[text], spans=[{"index": 0, "start": 0, "end": 1}] * 100
        ),
    ]
    if html:
        document = {"text": text, "format": "html"}
        return _json("/v1/compress", question=QUESTION, documents=[document], max_tokens=100)
    return draw.choice(shapes)()


def _tool_result(text: str) -> list[dict[str, Any]]:
    function = {"name": "f", "arguments": "{}"}
    call = {"id": "a", "type": "function", "function": function}
    return [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "a", "content": text},
    ]


def _of_values(draw: random.Random) -> Body:
    """JSON of many small values, where they are allowed and where they are not."""
    part = draw.choice(("1,", "{},", "[],", "1.5,", "null,", '"",', '"a",', '{"text":"a"},', "-0,"))
    path, field_name = draw.choice(
        (
            ("/v1/compress", "documents"),
            ("/v1/rerank", "documents"),
            ("/v1/compress", "messages"),
            ("/rerank", "texts"),
            ("/score", "text_2"),
            ("/predict", "inputs"),
            ("/v1/rerank", "nonsense"),
            ("/v1/compress/batch", "inputs"),
        )
    )
    size = draw.choice((BODY_BYTES // 16, BODY_BYTES // 4, BODY_BYTES))
    start = f'{{"question": "q", "documents": ["a"], "{field_name}": ['
    if field_name == "documents":
        start = '{"question": "q", "documents": ['
    return _repeated(path, start, part, "1]}", size)


def _malformed_json(draw: random.Random) -> Body:
    start, part, stop = draw.choice(
        (
            ("", "[", ""),
            ("", '{"a":', ""),
            ('{"question": "q", "documents": ["', "a", ""),
            ('{"question": "q", "documents": ["', "\\u0041", '"]}'),
            ('{"question": "q", "documents": ["', "\\", '"]}'),
            ('{"question": "q", "seed": ', "1", "}"),
            ("", "1" * 4000 + ",", ""),
            ("[", "1" * 4000 + ",", "1]"),
            ("", " ", ""),
            ("", "\x00", ""),
        )
    )
    return _repeated("/v1/compress", start, part, stop, BODY_BYTES)


def _many_keys(draw: random.Random) -> Body:
    keys = {f"{draw.random()}": 1 for _ in range(200_000)}
    if draw.random() < 0.5:
        return _json("/v1/rerank", query=QUESTION, documents=["a"], **keys)
    document = {"text": "a", "metadata": keys}
    return _json("/v1/compress", question=QUESTION, documents=[document], max_tokens=9)


def hostile_body(draw: random.Random) -> Body:
    """A path and a body."""
    return draw.choice((_of_text, _of_text, _of_text, _of_values, _malformed_json, _many_keys))(
        draw
    )


@dataclass
class Figures:
    """What was seen while hostile bodies were served.

    Attributes:
        livez_s: how long `/livez` took. worked_s: the processor's seconds that the service used
            meanwhile, which other work of the machine does not lengthen.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    livez_s: list[float] = field(default_factory=list)
    worked_s: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    rss_before: int = 0
    rss_most: int = 0
    rss_after: int = 0

    def percentile_ms(self, share: float) -> float:
        """Of the times that `/livez` took."""
        return float(np.percentile(self.livez_s, share)) * 1e3

    def worked_ms(self, share: float) -> float:
        """Likewise of the processor's time."""
        return float(np.percentile(self.worked_s, share)) * 1e3

    def __str__(self) -> str:
        shown = ", ".join(f"{n} × {status}" for status, n in sorted(self.statuses.items()))
        memory = " / ".join(
            f"{size / 1e6:.0f}" for size in (self.rss_before, self.rss_most, self.rss_after)
        )
        return (
            f"{shown}; /livez p50 {self.percentile_ms(50):.1f} ms, p99 {self.percentile_ms(99):.0f}"
            f" ms, most {self.percentile_ms(100):.0f} ms of {len(self.livez_s):,}; the service's"
            f" processor time meanwhile p50 {self.worked_ms(50):.0f} ms, p99"
            f" {self.worked_ms(99):.0f} ms, most {self.worked_ms(100):.0f} ms; MB before,"
            f" most, after: {memory}"
        )


def processor_s(pid: int) -> float:
    """The processor's time that a process has used, in hundredths of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


class LivezProbe:
    """Asks for `/livez` again and again, from a process of its own.

    Bodies are made in this one, whose threads would wait for each other.
    """

    def __init__(self, port: int, pid: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._is_done = spawn.Event()
        self._seen, seen = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=_ask, args=(port, pid, self._is_done, seen))
        self._process.start()

    def stop(self, figures: Figures) -> None:
        """Ends it and puts what it saw into the figures."""
        self._is_done.set()
        figures.livez_s, figures.worked_s, figures.rss_most = self._seen.recv()
        self._process.join()


def _ask(port: int, pid: int, is_done: Any, seen: Any) -> None:
    livez_s, worked_s, rss_most = list[float](), list[float](), 0
    while not is_done.wait(ASKED_EVERY_S):
        began, worked = time.monotonic(), processor_s(pid)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/livez")
        connection.getresponse().read()
        connection.close()
        livez_s.append(time.monotonic() - began)
        worked_s.append(processor_s(pid) - worked)
        rss_most = max(rss_most, resident_bytes(pid))
    seen.send((livez_s, worked_s, rss_most))


def send(port: int, body: Body) -> int:
    """The status of the answer; 0 where the connection was closed without one."""
    path, data = body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=180)
    try:
        connection.request("POST", path, data, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except ConnectionError:
        return 0
    finally:
        connection.close()


def send_all(port: int, pid: int, bodies: int, draw: random.Random) -> Figures:
    """Sends bodies and measures `/livez` and memory meanwhile."""
    figures = Figures()
    seeds = [draw.random() for _ in range(bodies)]

    def send_one(seed: float) -> None:
        body = hostile_body(random.Random(seed))
        status = send(port, body)
        figures.statuses[status] += 1
        if status >= 500 or status == 0:
            figures.failed.append(f"{status} {body[0]} seed {seed}")

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(send_one, [draw.random() for _ in range(WARM_UP)]))
        time.sleep(REST_S)
        figures.rss_before = resident_bytes(pid)
        probe = LivezProbe(port, pid)
        list(pool.map(send_one, seeds))
    probe.stop(figures)
    time.sleep(REST_S)
    figures.rss_after = resident_bytes(pid)
    return figures


def send_hostile_bodies(_: Path, bodies: int, draw: random.Random) -> FaultOutcome:
    """Runs a service and sends hostile bodies."""
    port = free_port()
    flags = ["--port", str(port), "--threads", "1", "--log-level", "error", "--timeout-s", "30"]
    flags += ["--method", "lexical", "--methods", "lexical"]
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, "serve", *flags])
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}") or process.poll() is not None, 300)
        figures = send_all(port, process.pid, bodies, draw)
    finally:
        process.send_signal(signal.SIGTERM)
        left = process.wait(90)
    for line in figures.failed:
        sys.stderr.write(f"{line}\n")
    is_kept = (
        left == 0
        and figures.percentile_ms(99) <= MOST_P99_S * 1e3
        and figures.rss_after <= MOST_GROWTH * figures.rss_before
    )
    survived = bodies if is_kept else 0
    return FaultOutcome(bodies, survived, len(figures.failed), str(figures))


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("--bodies", type=int, default=300)
    given = words.parse_args()
    outcome = send_hostile_bodies(Path(), given.bodies, random.Random("hostile"))
    sys.stdout.write(f"{outcome}\n")
    return 0 if outcome.kept else 1


if __name__ == "__main__":
    sys.exit(main())
