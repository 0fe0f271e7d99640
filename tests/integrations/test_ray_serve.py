"""`tamis serve --engine ray`: copies on Ray Serve answer as one process does, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tamis.service.http.app import create_app
from tamis.service.http.runtime.settings import Settings
from tests.integrations.test_ray import below, read
from tests.service.cli.cli_kit import SCRIPT
from tests.service.http.test_serve import free_port

pytest.importorskip("ray.serve")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
BODY = {
    "question": "How are keys rotated?",
    "documents": ["Keys are rotated weekly. The sky is blue.", "Nobody asked. Rotate the keys."],
    "max_tokens": 12,
}
VARYING = ("id", "created", "timings")


@pytest.fixture(scope="module")
def two_copies(tmp_path_factory):
    """The address of two copies and the process that started them; stopped by SIGTERM."""
    port = free_port()
    flags = ["--engine", "ray", "--replicas", "2", "--threads", "1", "--port", str(port)]
    flags += ["--method", "lexical", "--methods", "lexical"]
    said = tmp_path_factory.mktemp("ray") / "said"
    command = [sys.executable, "-c", SCRIPT, "serve", *flags]
    environ = {k: v for k, v in os.environ.items() if not k.startswith("TAMIS_")}
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environ)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while b"listening" not in said.read_bytes():
        assert process.poll() is None, said.read_text()
        assert time.monotonic() < deadline, said.read_text()
        time.sleep(0.2)
    yield url, process
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0, said.read_text()
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/livez")


def copies(root: int) -> list[int]:
    """The processes that run a copy."""
    return [pid for pid in below(root) if b"ServeReplica" in read(f"/proc/{pid}/cmdline")]


def stable(answer: httpx.Response) -> dict[str, object]:
    assert answer.status_code == 200, answer.text
    return {name: value for name, value in answer.json().items() if name not in VARYING}


def test_two_copies_answer_what_one_process_answers(two_copies):
    url, process = two_copies
    assert len(copies(process.pid)) == 2
    from starlette.testclient import TestClient

    with TestClient(
        create_app(Settings(method="lexical", methods=("lexical",))), "http://localhost"
    ) as local:
        wanted = stable(local.post("/v1/compress", json=BODY))
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: httpx.post(f"{url}/v1/compress", json=BODY), range(40))
        assert all(stable(answer) == wanted for answer in found)


def test_errors_and_the_page_come_through(two_copies):
    url, _ = two_copies
    refused = httpx.post(f"{url}/v1/compress", json={"question": "x"})
    assert refused.status_code == 422
    assert "documents" in refused.text
    assert httpx.get(f"{url}/nowhere").status_code == 404
    assert httpx.get(f"{url}/readyz").status_code == 200
    assert "tamis" in httpx.get(url).text


def test_a_copy_that_is_killed_is_replaced_and_the_other_goes_on(two_copies):
    url, process = two_copies
    before = copies(process.pid)
    os.kill(before[0], signal.SIGKILL)
    deadline = time.monotonic() + 120
    served_meanwhile = 0
    while set(now := copies(process.pid)) == set(before) or len(now) < 2:
        assert time.monotonic() < deadline
        served_meanwhile += httpx.post(f"{url}/v1/compress", json=BODY).status_code == 200
        time.sleep(0.1)
    assert served_meanwhile
    assert httpx.post(f"{url}/v1/compress", json=BODY).status_code == 200
