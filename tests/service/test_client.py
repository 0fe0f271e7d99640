"""The Python client, against a service on a real socket."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from tamis.service.client import AsyncClient, Client, ServiceError
from tests.service.app_kit import DOCUMENTS, NEEDLE, QUESTION, served


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
            [{"query": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}]
        )
        assert batch.data[0].compression.text == short.text
        assert tamis.health().status == "ok"
        assert tamis.models().data[0].id == "default"
        assert tamis.info().limits.max_documents == 1000


def test_text_that_utf8_cannot_hold_goes_there_and_back(service):
    text = "\ud800 and \x00. So."
    with Client(service.url) as tamis:
        assert tamis.compress("\udc00?", [text], max_tokens=100).text == text


def test_an_error_says_what_the_service_said(service):
    with (
        Client(service.url) as tamis,
        pytest.raises(ServiceError, match="raise the budget") as told,
    ):
        tamis.compress(QUESTION, DOCUMENTS, max_tokens=1)
    assert (told.value.status, told.value.code) == (422, "budget_too_small")
    assert told.value.request_id
    with Client(service.url) as tamis, pytest.raises(ServiceError) as missing:
        tamis.search("x")
    assert missing.value.status == 404


def test_a_service_that_is_not_there_is_named():
    with (
        Client("http://127.0.0.1:9", retries=1) as tamis,
        pytest.raises(ServiceError, match="could not be reached"),
    ):
        tamis.health()


class _Busy(BaseHTTPRequestHandler):
    """Refuses twice, each time in another way, then answers."""

    times: ClassVar[list[float]] = []

    def do_GET(self):
        self.times.append(time.monotonic())
        status = {1: 429, 2: 503}.get(len(self.times), 200)
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
def busy():
    _Busy.times = []
    server = HTTPServer(("127.0.0.1", 0), _Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_refusal_for_the_moment_is_tried_again_when_the_service_said(busy):
    with Client(busy) as tamis:
        assert tamis.health().status == "ok"
    first, second, third = _Busy.times
    assert 1.0 <= second - first < 3
    assert third - second < 3


def test_without_retries_the_refusal_is_told(busy):
    with Client(busy, retries=0) as tamis, pytest.raises(ServiceError) as told:
        tamis.health()
    assert told.value.status == 429
    assert len(_Busy.times) == 1


def test_a_key_goes_along():
    with served(api_keys=("ada:0123456789abcdef",)) as service:
        with Client(service.url, "0123456789abcdef") as tamis:
            assert tamis.info().version
        with Client(service.url) as tamis, pytest.raises(ServiceError, match="Bearer") as told:
            tamis.info()
    assert told.value.status == 401
    assert json.dumps(told.value.code) == '"invalid_api_key"'
