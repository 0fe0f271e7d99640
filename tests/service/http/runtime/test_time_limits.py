"""Time limits hold for a whole call, whatever it is made of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
import torch

from tamis.compressors.pipeline.compression import Compressor
from tamis.probes.interruption import check_interruption
from tamis.service.engine.errors import ClientDisconnected, OutOfTime
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.runtime.methods import SingleThreadEncoder
from tests.service.http.app_kit import NEEDLE, QUESTION, SlowReader, pointing, served, wait_until
from tests.service.http.test_serve import free_port

ROOMS = " ".join(f"Room {i} is painted in spring." for i in range(60))
READ_S = 20.0
"""What a hundred questions or fifty requests take at 4,000 tokens a second, and more; a busy
machine keeps a limit of a few seconds late, and yet long before."""


@pytest.mark.parametrize("on_error", ["fail", "passthrough"])
def test_a_hundred_questions_end_within_the_limit_of_a_call(on_error):
    body = {"questions": [f"{QUESTION} {i}" for i in range(100)], "documents": [ROOMS, NEEDLE]}
    with served(SlowReader(pointing(), 4000.0), timeout_s=2.0) as service:
        began = time.monotonic()
        answer = service.post("/v1/compress", **body, max_tokens=200, on_error=on_error)
        took_s = time.monotonic() - began
    assert took_s < READ_S
    if on_error == "fail":
        assert answer.status_code in (429, 504)
    else:
        assert answer.status_code == 200
        assert len(answer.json()["data"]) == 100


def test_a_batch_ends_within_its_limit_and_has_what_was_done():
    one = {"question": QUESTION, "documents": [ROOMS, NEEDLE], "max_tokens": 200}
    with served(SlowReader(pointing(), 4000.0), timeout_s=3.0) as service:
        began = time.monotonic()
        answer = service.post("/v1/compress/batch", inputs=[one] * 50)
        took_s = time.monotonic() - began
    assert took_s < READ_S
    items = answer.json()["data"]
    assert len(items) == 50
    errors = [item["error"]["code"] for item in items if item["error"] is not None]
    assert 0 < len(errors) < 50
    assert set(errors) == {"timeout"}


class SlowEncoder:
    """An encoder that takes its time for each call."""

    tokens = None

    def __init__(self, pause_s: float = 0.1) -> None:
        self.calls, self.pause_s = 0, pause_s

    def encode(self, texts):
        self.calls += 1
        time.sleep(self.pause_s)
        return torch.tensor([[float(len(text))] for text in texts])


TEXTS = ["a" * (100 + i % 7 * 900) for i in range(200)]


def test_an_encoder_is_asked_in_slices_and_its_answer_is_in_the_order_of_the_texts():
    slow = SlowEncoder(pause_s=0.0)
    vectors = SingleThreadEncoder(slow).encode(TEXTS)
    assert vectors[:, 0].tolist() == [float(len(text)) for text in TEXTS]
    assert 10 < slow.calls < 60


def test_an_encoder_stops_at_the_deadline_of_the_request():
    slow = SlowEncoder()
    request = QueuedRequest(0, 0.0, 0, deadline=time.monotonic() + 0.25)
    with request.as_current(), pytest.raises(OutOfTime):
        SingleThreadEncoder(slow).encode(TEXTS)
    time.sleep(0.5)
    assert slow.calls <= 4


def test_an_encoder_stops_when_the_request_has_ended():
    slow, request = SlowEncoder(), QueuedRequest(0, 0.0, 0)
    request.end(ClientDisconnected("gone"))
    with request.as_current(), pytest.raises(ClientDisconnected):
        SingleThreadEncoder(slow).encode(TEXTS)
    assert slow.calls == 0


def test_timeout_ms_holds_for_a_method_that_reads_with_an_encoder():
    slow = SlowEncoder(pause_s=1.0)
    with served(method="lexical", methods=("lexical", "embedding")) as service:
        methods = service.service_state.methods
        methods._encoder = SingleThreadEncoder(slow)
        answer = service.post(
            "/v1/compress",
            question=QUESTION,
            documents=[f"{i} {ROOMS}" for i in range(200)],
            max_tokens=50,
            method="embedding",
            timeout_ms=4000,
        )
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "partial"
    assert slow.calls < 14  # of 25 or so


SLOW_TOKENS_PER_SECOND = 4000.0
"""A document of 1,900 tokens takes half a second, and ten of them five; no machine is faster."""
MANY = [f"{i} {ROOMS}" for i in range(10)]
RANKED = [
    ("/v1/rerank", {"query": QUESTION, "documents": MANY}),
    ("/v2/rerank", {"query": QUESTION, "documents": MANY}),
    ("/rerank", {"query": QUESTION, "texts": MANY}),
    ("/v1/rerank", {"query": QUESTION, "documents": MANY, "top_k": 3}),
    ("/v1/rerank", {"query": QUESTION, "documents": MANY, "instruct": "Find it."}),
    (
        "/v1/rerank",
        {"query": QUESTION, "candidates": [{"id": i, "text": t} for i, t in enumerate(MANY)]},
    ),
    ("/v1/ranking", {"query": {"text": QUESTION}, "passages": [{"text": t} for t in MANY]}),
    ("/inference/v1/rerank", {"query": QUESTION, "documents": MANY}),
]
SCORED = [
    ("/score", {"text_1": QUESTION, "text_2": MANY}),
    ("/predict", {"inputs": [[QUESTION, text] for text in MANY]}),
    ("/v1/inference/m", {"queries": [QUESTION], "documents": MANY}),
]


@pytest.fixture(scope="module")
def slow_service():
    with served(SlowReader(pointing(), SLOW_TOKENS_PER_SECOND), timeout_s=300.0) as service:
        yield service


@pytest.mark.parametrize(("path", "body"), RANKED, ids=lambda value: str(value)[:40])
def test_at_timeout_ms_a_ranking_is_made_of_what_was_read_and_of_words(slow_service, path, body):
    answer = slow_service.post(path, **body, timeout_ms=1000)
    assert answer.status_code == 200, answer.text
    said = answer.headers.get("x-tamis-warnings") or str(answer.json()["meta"]["warnings"])
    assert "of 10 documents were read in time; the others were placed by their words" in said


@pytest.mark.parametrize(("path", "body"), SCORED, ids=lambda value: str(value)[:40])
def test_pairs_that_were_not_all_scored_by_timeout_ms_are_a_408(slow_service, path, body):
    answer = slow_service.post(path, **body, timeout_ms=500)
    assert answer.status_code == 408, answer.text


def test_spans_are_not_made_up_of_words(slow_service):
    spans = {"mode": "enabled"}
    body = {"query": QUESTION, "documents": MANY, "relevant_spans": spans}
    answer = slow_service.post("/v2/rerank", **body, timeout_ms=500)
    assert answer.status_code == 408, answer.text


class EndlessIndex:
    """An index whose search goes on until it is told to stop."""

    def __init__(self) -> None:
        self.searches = self.ended = 0

    def search(self, *args, **options):
        self.searches += 1
        try:
            while True:
                check_interruption()
                time.sleep(0.01)
        finally:
            self.ended += 1


@pytest.fixture(scope="module")
def index_service():
    with served(method="lexical", timeout_s=300.0, max_requests=6) as service:
        yield service


def with_index(service):
    index = EndlessIndex()
    service.service_state.indexes["a"] = index
    return index


def test_a_search_ends_at_timeout_ms(index_service):
    index = with_index(index_service)
    answer = index_service.post("/v1/search", question=QUESTION, timeout_ms=500)
    assert answer.status_code == 408, answer.text
    assert answer.json()["error"]["code"] == "timeout_ms"
    assert index.ended == 1


def test_a_search_ends_when_its_client_has_gone(index_service):
    index = with_index(index_service)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{index_service.url}/v1/search", json={"question": QUESTION}, timeout=1)
    wait_until(lambda: index.searches == 1)
    wait_until(lambda: index.ended == 1)


def test_searches_are_admitted_like_other_requests(index_service):
    index = with_index(index_service)
    with ThreadPoolExecutor(8) as pool:
        body = {"question": QUESTION, "timeout_ms": 2000}
        sent = [pool.submit(index_service.post, "/v1/search", **body) for _ in range(8)]
        statuses = sorted(future.result().status_code for future in sent)
    assert set(statuses) == {408, 429}
    assert statuses.count(408) <= 6
    assert index.searches <= 6


def test_questions_of_one_call_share_its_time_and_its_documents(slow_service, monkeypatch):
    prepared = []
    original = Compressor.prepare
    monkeypatch.setattr(
        Compressor, "prepare", lambda *given: prepared.append(1) or original(*given)
    )
    body = {"questions": [f"{QUESTION} {i}" for i in range(8)], "documents": MANY[:2]}
    answer = slow_service.post("/v1/compress", **body, max_tokens=50, timeout_ms=1000)
    assert answer.status_code == 200, answer.text
    statuses = [found["status"] for found in answer.json()["data"]]
    assert len(statuses) == 8
    assert "partial" in statuses
    assert len(prepared) == 1


@pytest.mark.parametrize("field", ["prompt", "inputs"])
def test_tokenize_is_bounded(field):
    with served(max_request_tokens=10_000) as service:
        assert service.post("/tokenize", **{field: "a" * 9000}).status_code == 200
        too_many = service.post("/tokenize", **{field: "a" * 11_000})
        too_long = service.post("/tokenize", **{field: "a" * 1_000_000})
        many = service.post("/tokenize", inputs=["a"] * 1001)
    assert (too_many.status_code, too_long.status_code) == (413, 413)
    assert "tokens and 10,000 is the most" in too_many.json()["error"]["message"]
    assert many.status_code == 422


ENDLESS = """
import sys, time
from tests.service.http.app_kit import pointing
from tamis.service.http.app import create_app
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.server import create_server

class Endless(type(pointing())):
    def read(self, prompts, want):
        while True:
            sum(range(1000))

settings = Settings(port=int(sys.argv[1]), warmup=False, drain_timeout_s=0.5, log_level="error")
app = create_app(settings, Endless(pointing().weigh))

def work(_):
    while True:
        sum(range(1000))

server = create_server(settings, app)
import tamis.service.http.routes.compress as expand
expand.expanded_spans = work
server.run()
"""


def test_sigterm_ends_the_process_although_threads_compute():
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(port)],
        env={k: v for k, v in os.environ.items() if not k.startswith("TAMIS_")},
    )
    try:
        wait_until(lambda: _is_live(url) or process.poll() is not None)
        for path, body in (
            ("/v1/expand", {"documents": ["A b."], "spans": [{"index": 0, "start": 0, "end": 1}]}),
            ("/v1/compress", {"question": "a", "documents": ["It is. It was."], "max_tokens": 8}),
        ):
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{url}{path}", json=body, timeout=httpx.Timeout(60, read=1))
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 1)  # the threads themselves would never end
    finally:
        process.kill()


def _is_live(url: str) -> bool:
    try:
        return httpx.get(f"{url}/livez", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
