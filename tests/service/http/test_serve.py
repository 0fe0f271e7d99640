"""`tamis serve` as a process: it starts, serves, and stops on a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, wait_until

pytestmark = pytest.mark.model
SCRIPT = "from tamis.service.cli.main import run; run()"


def started(port: int, *flags: str) -> subprocess.Popen[str]:
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TAMIS_")}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "serve", "--port", str(port), "--threads", "1", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env={**environ, "TAMIS_LOG_FORMAT": "json"},
    )


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.HTTPError:
        return False


def test_it_serves_and_finishes_what_is_in_hand_before_it_leaves(proxy_folder):
    """On SIGTERM it says unready while it still serves, then ends with everything answered."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = started(port, "--drain-delay-s", "3", "--methods", "question_rows,lexical")
    try:
        wait_until(lambda: answers(url) or process.poll() is not None, 120)
        room = " ".join(f"Room {i} is painted in spring." for i in range(60))
        body = {"question": QUESTION, "documents": [*DOCUMENTS, room], "max_tokens": 20}
        assert process.poll() is None, process.stderr.read()
        with ThreadPoolExecutor(4) as pool, httpx.Client(base_url=url, timeout=600) as http:
            assert http.get("/info").json()["layers_loaded"] == 20
            work = [pool.submit(http.post, "/v1/compress", json=body) for _ in range(4)]
            wait_until(lambda: http.get("/readyz").json()["queue_tokens"] > 0)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: http.get("/readyz").status_code == 503, 5)
            assert http.get("/readyz").json()["reason"] == "draining"
            assert [NEEDLE in each.result().json()["text"] for each in work] == [True] * 4
        assert process.wait(30) == 0
    finally:
        process.kill()
    assert '"everything_served": true' in process.stderr.read()


def test_a_port_that_is_taken_is_named_and_nothing_runs_on(proxy_folder):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        process = started(taken.getsockname()[1], "--methods", "lexical", "--method", "lexical")
        _, stderr = process.communicate(timeout=600)
    assert process.returncode == 2
    assert re.search(r"tamis: .*--port", stderr), stderr
