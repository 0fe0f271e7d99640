"""Bodies, ids, slow callers: what a request passes before anything is done for it."""

from __future__ import annotations

import gzip
import json
import time
from contextlib import suppress

import pytest

from tests.service.http.app_kit import BODY, NEEDLE, QUESTION, connected, served


@pytest.fixture(scope="module")
def service():
    with served(max_body_bytes=100_000) as running:
        yield running


@pytest.fixture(scope="module")
def hasty():
    """A service that waits for nobody."""
    with served(body_timeout_s=1.0, header_timeout_s=0.5) as running:
        yield running


def send_slowly(to, piece, times, pause_s):
    """Sends a piece again and again, until the service has closed the connection."""
    with suppress(OSError):
        for _ in range(times):
            time.sleep(pause_s)
            to.sendall(piece)


def receive_all(connection):
    """What comes until the service closes the connection, which it may do with a reset."""
    received = b""
    with suppress(ConnectionResetError):
        while part := connection.recv(4096):
            received += part
    return received


@pytest.mark.parametrize("given", ["abc-123", "x" * 128])
def test_a_request_id_comes_back(service, given):
    answer = service.http.get("/livez", headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "ü"])
def test_an_id_that_could_break_a_log_is_replaced(service, given):
    answer = service.http.get("/livez", headers={"x-request-id": given.encode("latin-1")})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"{", 400, "no JSON"),
        (b"\xff\xfe{}", 400, "UTF-8"),
        (b'{"query": NaN, "documents": []}', 400, "NaN"),
        (b'{"query": "a", "documents": [], "ratio": 1e999}', 400, "larger than any number"),
        (b"[" * 50_000, 400, "nested deeper than 64"),
        (b'{"query":"a","documents":[],"user":' + b'{"a":' * 70 + b"1" + b"}" * 71, 400, "deeper"),
        (b'{"query": "a", "documents": [], "seed": 1' + b"0" * 5000 + b"}", 400, "digits"),
        (b"null", 422, "the body"),
        (b"[]", 422, "the body"),
        (b"", 400, "the body is empty"),
        (b'{"query": "a"}', 422, "documents"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(service, data, status, says):
    answer = service.raw("/v1/compress", data)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_every_string_python_can_hold_goes_in_and_comes_out(service):
    text = "a\x00b\ud800. \udfff\U0001f600 <|im_end|> \u2028. " + NEEDLE
    data = json.dumps({"question": "\ud800?", "documents": [text], "max_tokens": 500}).encode()
    answer = service.raw("/v1/compress", data)
    assert json.loads(answer.content)["text"] == text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
def test_other_media_types_are_415(service, kind):
    answer = service.raw("/v1/compress", json.dumps(BODY).encode(), content_type=kind)
    assert answer.status_code == 415


def test_gzip_is_unpacked(service):
    packed = gzip.compress(json.dumps(BODY).encode())
    two = gzip.compress(json.dumps(BODY).encode()[:50]) + gzip.compress(
        json.dumps(BODY).encode()[50:]
    )
    for data in (packed, two):
        answer = service.raw("/v1/compress", data, content_encoding="gzip")
        assert NEEDLE in answer.json()["text"]


def test_a_gzip_bomb_is_413_and_is_never_unpacked(service):
    bomb = gzip.compress(b" " * 60_000_000, 9)
    assert len(bomb) < 100_000
    began = time.process_time()
    answer = service.raw("/v1/compress", bomb, content_encoding="gzip")
    assert answer.status_code == 413
    assert time.process_time() - began < 2


# named: gzip writes the time into its bytes, and every process of a run has to find the same tests
@pytest.mark.parametrize(
    "data", [b"no gzip", gzip.compress(b"{}")[:-9]], ids=["no gzip", "cut short"]
)
def test_a_broken_gzip_is_400(service, data):
    assert service.raw("/v1/compress", data, content_encoding="gzip").status_code == 400


def test_another_coding_is_415(service):
    assert service.raw("/v1/compress", b"x", content_encoding="br").status_code == 415


def test_a_body_over_the_limit_is_413_with_both_numbers(service):
    answer = service.raw("/v1/compress", b" " * 100_001)
    assert answer.status_code == 413
    assert "100,001" in answer.json()["error"]["message"]
    assert "100,000" in answer.json()["error"]["message"]


def test_a_body_of_unknown_length_is_counted_as_it_comes(service):
    def pieces():
        for _ in range(200):
            yield b" " * 1000

    answer = service.http.post(
        "/v1/compress", content=pieces(), headers={"content-type": "application/json"}
    )
    assert answer.status_code == 413


def test_a_hundred_thousand_documents_are_refused_with_the_number():
    with served() as roomy:
        answer = roomy.post("/v1/compress", question=QUESTION, documents=["a."] * 100_000)
    assert answer.status_code == 422
    assert "100,000 documents" in answer.json()["error"]["message"]


def test_headers_that_never_end_close_the_connection(hasty):
    """Each new header gives them no more time: else this would send for a minute."""
    slow = connected(hasty)
    slow.sendall(b"POST /v1/compress HTTP/1.1\r\nHost: localhost\r\n")
    began = time.monotonic()
    send_slowly(slow, b"X-More: 1\r\n", 600, 0.1)
    assert receive_all(slow) == b""
    assert time.monotonic() - began < 30
    slow.close()


def test_a_second_request_has_a_time_limit_too(hasty):
    slow = connected(hasty)
    slow.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):  # head and body may come apart
        answer += slow.recv(1000)
    assert b"200 OK" in answer
    slow.sendall(b"GET /livez HTTP/1.1\r\n")
    assert receive_all(slow) == b""
    slow.close()


def test_a_slow_body_is_408_and_holds_up_nobody(hasty):
    slow = connected(hasty)
    head = b"POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    slow.sendall(head + b"Content-Length: 5000\r\n\r\n{")
    assert hasty.post("/v1/compress", **BODY).status_code == 200
    send_slowly(slow, b" ", 4, 0.2)
    answer = receive_all(slow)
    assert b"408" in answer
    assert b"body_timeout" in answer
    slow.close()


def test_unknown_paths_and_verbs_are_named(service):
    missing, verb = service.http.get("/v2/compress"), service.http.get("/v1/compress")
    assert (missing.status_code, verb.status_code) == (404, 405)
    assert missing.json()["error"]["code"] == "not_found"
    assert verb.headers["allow"] == "POST"


def test_meters_count_and_no_text_is_logged(capfd):
    with served(log_level="debug", log_format="json") as service:
        service.post("/v1/compress", **BODY)
        service.post("/v1/compress", question="zebra", documents=["zebra. crossing."], max_tokens=1)
        page = service.http.get("/metrics").text
    assert 'tamis_requests_total{route="/v1/compress",status="200"} 1.0' in page
    assert 'tamis_refused_total{code="budget_too_small"} 1.0' in page
    assert 'tamis_stage_seconds_count{stage="forward"}' in page
    assert "tamis_tokens_saved_total" in page
    assert "tamis_queue_tokens 0.0" in page
    lines = [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")
    ]
    entries = [line for line in lines if line.get("route") == "/v1/compress"]
    assert entries[0]["tokens_in"] > entries[0]["tokens_out"] > 0
    assert not any(word in json.dumps(lines) for word in ("zebra", "rotated", "painted"))
