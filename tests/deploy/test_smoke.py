"""deploy/smoke.py passes a service that keeps its laws and fails each one that breaks one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tamis.compressors.registry import layers_needed, load_proxy
from tests.deploy.test_image import load_script
from tests.service.http.app_kit import served

pytestmark = pytest.mark.model
SCRIPT = Path(__file__).parents[2] / "deploy/smoke.py"
smoke = load_script("smoke")
Change = Callable[[str, int, Any], tuple[int, Any]]


def run_smoke(url: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), url],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environ,
    )


@pytest.fixture(scope="module")
def service(proxy_folder) -> Iterator[str]:
    with served(load_proxy(proxy_folder, layers_needed("question_rows"))) as running:
        yield running.url


@contextmanager
def between(url: str, change: Change) -> Iterator[str]:
    """A server in front of a service, which changes what it answers."""

    class ChangingProxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass(None)

        def do_POST(self) -> None:
            self._pass(self.rfile.read(int(self.headers["content-length"])))

        def _pass(self, data: bytes | None) -> None:
            head = {"content-type": "application/json"}
            verb = "GET" if data is None else "POST"
            answer = httpx.request(verb, url + self.path, content=data, headers=head, timeout=60)
            kind = answer.headers["content-type"]
            body = answer.json() if "json" in kind else answer.text
            status, body = change(self.path, answer.status_code, body)
            body = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), ChangingProxy)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def at(path: str, edit: Callable[[Any], Any]) -> Change:
    """Changes the answer of one path."""
    return lambda asked, status, body: (status, edit(body) if asked == path else body)


def one_off(body: Any) -> Any:
    for result in body["results"]:
        for span in result["relevant_spans"]:
            span["end"] += 1
    return body


def backwards(body: Any) -> Any:
    return {**body, "results": body["results"][::-1]}


def test_a_service_that_keeps_its_laws_passes(service):
    done = run_smoke(service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok ") == 6


@pytest.mark.parametrize(
    ("check", "change", "says"),
    [
        ("compress", at("/v1/compress", one_off), "verbatim"),
        ("compress", at("/v1/compress", lambda t: {**t, "text": t["text"].lower()}), "verbatim"),
        ("compress", at("/tokenize", lambda t: {**t, "count": 19}), "19 tokens where 18"),
        ("rerank", at("/v2/rerank", backwards), "cohere"),
        ("explain", at("/v1/explain", lambda t: {**t, "results": t["results"][:1]}), "missing"),
        ("about", at("/metrics", lambda t: "up 1"), "lacks the requests"),
        ("errors", lambda p, s, t: (200 if s == 404 else s, t), "/nowhere"),
        ("rerank", lambda p, s, t: (500 if p == "/score" else s, t), "/score answered 500"),
    ],
    ids=["span", "rewritten", "budget", "order", "missing", "meters", "404", "500"],
)
def test_a_law_that_is_broken_is_named(service, check, change, says):
    with between(service, change) as url, pytest.raises(smoke.Broken, match=says):
        getattr(smoke, check)(smoke.Service(url, None))


def test_one_broken_law_is_one_line_and_exit_code_1(service):
    with between(service, at("/metrics", lambda t: "up 1")) as url:
        done = run_smoke(url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.startswith("FAIL about")
    assert done.stdout.count("ok ") == 5
    assert "Traceback" not in done.stderr


def test_a_service_that_cannot_be_reached_is_reported():
    done = run_smoke("http://127.0.0.1:9")
    assert done.returncode == 2
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
