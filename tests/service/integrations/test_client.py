"""The Python client, against a service on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import httpx
import pytest

from tamis.probes.errors import BadInput
from tamis.service.integrations.client import AsyncClient, Client, ServiceError
from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, served


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def test_sync_and_async_give_the_same(service):
    async def asked():
        async with AsyncClient(service.url) as tamis:
            short = await tamis.compress(QUESTION, DOCUMENTS, max_tokens=40)
            each = await tamis.compress_each([QUESTION], DOCUMENTS, max_tokens=40)
            ranked = await tamis.rerank(QUESTION, DOCUMENTS)
            return (
                short,
                each,
                ranked,
                await tamis.info(),
                await tamis.models(),
                await tamis.health(),
            )

    theirs = asyncio.run(asked())
    with Client(service.url) as tamis:
        short = tamis.compress(QUESTION, DOCUMENTS, max_tokens=40)
        assert NEEDLE in short.text
        assert short.text == theirs[0].text == theirs[1].data[0].text
        assert short.usage == theirs[0].usage
        ranked = tamis.rerank(QUESTION, DOCUMENTS)
        assert [r.index for r in ranked.results] == [r.index for r in theirs[2].results]
        assert tamis.explain(QUESTION, DOCUMENTS, max_tokens=40).text == short.text
        batch = tamis.compress_batch(
            [{"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}]
        )
        assert batch.data[0].compression.text == short.text
        assert tamis.health().status == "ok"
        assert tamis.models().data[0].id == "default"
        assert tamis.info().limits.max_documents == 1000


def test_what_was_left_out_around_a_span_is_fetched(service):
    text = "The sky is blue. The grass is green. The door is shut. The cat is old."
    with Client(service.url) as tamis:
        spans = [{"index": 0, "start": 20, "end": 25}]
        grown = tamis.expand([text], spans, neighbours=0).results[0]
        more = tamis.expand([text], spans, neighbours=1).results[0]
    assert grown.text == "The grass is green."
    assert more.text == "The sky is blue. The grass is green. The door is shut."


def test_text_that_utf8_cannot_hold_goes_there_and_back(service):
    text = "\ud800 and \x00. So."
    with Client(service.url) as tamis:
        assert tamis.compress("\udc00?", [text], max_tokens=100).text == text


def test_an_error_has_the_message_of_the_service(service):
    with (
        Client(service.url) as tamis,
        pytest.raises(ServiceError, match="raise the budget") as refusal,
    ):
        tamis.compress(QUESTION, DOCUMENTS, max_tokens=1)
    assert (refusal.value.status, refusal.value.code) == (422, "budget_too_small")
    assert refusal.value.request_id
    with Client(service.url) as tamis, pytest.raises(ServiceError) as missing:
        tamis.search("x")
    assert missing.value.status == 404


@pytest.mark.parametrize("call", ["compress", "explain", "rerank", "score", "expand"])
@pytest.mark.parametrize("documents", ["one text", b"one text", {"text": "one"}, None])
def test_a_text_in_place_of_a_list_is_refused_and_not_sent_letter_by_letter(call, documents):
    given = (documents, []) if call == "expand" else (QUESTION, documents)
    with (
        Client("http://127.0.0.1:9", retries=0) as tamis,
        pytest.raises(BadInput, match=f"documents is of type {type(documents).__name__}; give"),
    ):
        getattr(tamis, call)(*given)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_budget_that_json_cannot_say_is_refused_and_not_left_out(value):
    with (
        Client("http://127.0.0.1:9", retries=0) as tamis,
        pytest.raises(BadInput, match=f"ratio is {value}; give a finite number"),
    ):
        tamis.compress(QUESTION, DOCUMENTS, ratio=value)


def test_a_service_that_is_not_there_is_named():
    with (
        Client("http://127.0.0.1:9", retries=1) as tamis,
        pytest.raises(ServiceError, match="could not be reached"),
    ):
        tamis.health()


class _Busy(BaseHTTPRequestHandler):
    """Refuses twice, each time in another way, then answers."""

    paths: ClassVar[list[str]] = []

    def do_GET(self):
        self.paths.append(self.path)
        status = {1: 429, 2: 503}.get(len(self.paths), 200)
        body = b'{"status":"ok","queue_tokens":0,"queue_fraction":0.0}'
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def slept(monkeypatch):
    """The seconds that this thread would have slept; others may wait meanwhile."""
    seconds, here = [], threading.get_ident()
    sleep, sleep_async = time.sleep, asyncio.sleep

    def sleep_elsewhere(pause):
        return seconds.append(pause) if threading.get_ident() == here else sleep(pause)

    async def sleep_async_elsewhere(pause):
        seconds.append(pause) if threading.get_ident() == here else await sleep_async(pause)

    monkeypatch.setattr(time, "sleep", sleep_elsewhere)
    monkeypatch.setattr(asyncio, "sleep", sleep_async_elsewhere)
    return seconds


@pytest.fixture
def busy():
    _Busy.paths = []
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_refusal_for_the_moment_is_tried_again_when_the_service_said(busy, slept):
    with Client(busy) as tamis:
        assert tamis.health().status == "ok"
    assert _Busy.paths == ["/readyz"] * 3
    assert slept == [1.0, 0.5]  # as it said, and then as the client has it for a second pause


def test_without_retries_the_refusal_is_raised(busy):
    with Client(busy, retries=0) as tamis, pytest.raises(ServiceError) as refusal:
        tamis.health()
    assert refusal.value.status == 429
    assert len(_Busy.paths) == 1


def test_a_key_goes_along():
    with served(api_keys=("ada:0123456789abcdef",)) as service:
        with Client(service.url, "0123456789abcdef") as tamis:
            assert tamis.info().version
        with Client(service.url) as tamis, pytest.raises(ServiceError, match="Bearer") as refusal:
            tamis.info()
    assert refusal.value.status == 401
    assert json.dumps(refusal.value.code) == '"invalid_api_key"'


HEALTHY = {"status": "ok", "queue_tokens": 0, "queue_fraction": 0.0}


def answering(status, body):
    """A client, sync and async, of something that always answers this."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    transport = httpx.MockTransport(lambda _: httpx.Response(status, content=content))
    there = {"retries": 0, "transport": transport}
    return Client("http://there", **there), AsyncClient("http://there", **there)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"<html>\n<p>Welcome to nginx!", "Welcome to nginx"),
        (b"", "an empty body"),
        (b"\xff\xfe", "not UTF-8"),
        ([], "valid dictionary"),
        (None, "null"),
        (HEALTHY | {"status": "fine"}, "status"),
        ({"status": "ok", "new": 1}, "queue_tokens"),
        (b"[" * 500, "Expecting value"),
    ],
)
def test_a_success_that_is_no_answer_is_a_service_error_with_an_excerpt(body, why):
    sync, later = answering(200, body)
    with pytest.raises(ServiceError, match=why) as refusal:
        sync.health()
    assert refusal.value.status == 200
    assert "http://there answered 200 with what is no Health" in str(refusal.value)
    assert len(str(refusal.value)) < 500
    assert "\n" not in str(refusal.value)
    with pytest.raises(ServiceError) as same:
        asyncio.run(later.health())
    assert str(same.value) == str(refusal.value)


def test_fields_that_a_newer_service_adds_are_passed_over_at_any_depth():
    assert answering(200, HEALTHY | {"since": {"a": 1}})[0].health().status == "ok"
    with served() as service:
        body = service.post(
            "/v1/explain", question=QUESTION, documents=DOCUMENTS, max_tokens=40
        ).json()
    old = answering(200, body)[0].explain(QUESTION, DOCUMENTS)
    body["new"], body["usage"]["new"] = 1, [2]
    for result in body["results"]:
        result["new"] = None
        for span in result["relevant_spans"] or ():
            span["new"] = "x"
    assert answering(200, body)[0].explain(QUESTION, DOCUMENTS) == old


@pytest.mark.parametrize(
    ("body", "says", "code"),
    [
        ({"error": None}, "answered 500: '{\"error\": null}'", None),
        ({"error": ["a"]}, "answered 500", None),
        ({"error": 3, "error_type": 4}, "answered 500", None),
        ({"error": {"message": None, "code": 5}}, "answered 500", None),
        ({"error": ""}, "answered 500", None),
        (["a"], "answered 500", None),
        (b"<html>Bad gateway", "answered 500: '<html>Bad gateway'", None),
        (b"", "answered 500: an empty body", None),
        ({"error": "full", "error_type": "overloaded"}, "full", "overloaded"),
        ({"error": {"message": "no", "code": "x"}}, "no", "x"),
        ({"message": "of cohere"}, "of cohere", None),
    ],
)
def test_an_error_of_any_shape_is_a_service_error(body, says, code):
    with pytest.raises(ServiceError) as refusal:
        answering(500, body)[0].health()
    assert says in str(refusal.value)
    assert (refusal.value.status, refusal.value.code) == (500, code)


def test_scores_are_those_of_the_pairs_alone(service):
    with Client(service.url) as tamis:
        both = [item.score for item in tamis.score(QUESTION, DOCUMENTS).data]
        assert both == [tamis.score(QUESTION, [d]).data[0].score for d in DOCUMENTS]

    async def later():
        async with AsyncClient(service.url) as tamis:
            return [item.score for item in (await tamis.score(QUESTION, DOCUMENTS)).data]

    assert asyncio.run(later()) == both


@pytest.mark.parametrize("asked_for", ["86400", "9" * 400])
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_beyond_the_time_limit_is_not_begun(slept, asked_for, status):
    """The caller has the refusal at once, and the service is not asked before it said."""
    sent = []

    def refuse(request):
        sent.append(request)
        return httpx.Response(status, headers={"Retry-After": asked_for}, json={"error": "full"})

    options = {"timeout_s": 30.0, "transport": httpx.MockTransport(refuse)}
    with pytest.raises(ServiceError, match="full") as refusal:
        Client("http://there", **options).health()
    assert refusal.value.status == status
    with pytest.raises(ServiceError, match="full"):
        asyncio.run(AsyncClient("http://there", **options).health())
    assert (len(sent), slept) == (2, [])


def test_a_wait_within_the_time_limit_is_made(slept):
    full = httpx.Response(429, headers={"Retry-After": "30"}, json={"error": "full"})
    answers = iter([full, full, httpx.Response(200, json=HEALTHY)])
    transport = httpx.MockTransport(lambda _: next(answers))
    assert Client("http://there", timeout_s=30.0, transport=transport).health().status == "ok"
    assert slept == [30.0, 30.0]


@pytest.mark.parametrize("url", ["localhost:8080", "", "ftp://localhost", "http://"])
def test_what_is_no_address_is_refused_at_once(url):
    with pytest.raises(BadInput, match="give an address such as http://localhost:8080"):
        Client(url)
