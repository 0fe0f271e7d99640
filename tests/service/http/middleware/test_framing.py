"""Bodies whose length is ambiguous or too large, from clients that only send."""

from __future__ import annotations

import json
import socket

import httpx
import pytest

from tests.service.http.app_kit import BODY, connected, served


@pytest.fixture(scope="module")
def service():
    with served(max_body_bytes=100_000, body_timeout_s=5.0) as running:
        yield running


def receive_all(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    answer = b""
    while part := connection.recv(1 << 16):
        answer += part
    return answer


@pytest.mark.parametrize("verb", ["POST", "GET"])
def test_a_length_that_is_given_in_two_ways_is_refused_and_the_connection_closed(service, verb):
    data = json.dumps(BODY).encode()
    smuggled = b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(service) as connection:
        connection.sendall(
            f"{verb} /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
            + smuggled
        )
        answer = receive_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1") == 1
    assert b"ambiguous_length" in answer


@pytest.mark.parametrize("megabytes", [1, 20])
def test_a_client_that_sends_all_before_it_reads_gets_its_413(service, megabytes):
    for _ in range(5):
        with httpx.Client(base_url=service.url) as http:
            answer = http.post(
                "/v1/compress",
                content=b" " * (megabytes << 20),
                headers={"content-type": "application/json"},
            )
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_too_large"


def test_a_chunked_body_that_is_too_large_is_answered_as_well(service):
    def pieces():
        for _ in range(320):
            yield b" " * (1 << 16)

    answer = httpx.post(
        f"{service.url}/v1/compress",
        content=pieces(),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413


def test_a_raw_socket_reads_its_413_after_the_last_byte(service):
    size = 10 << 20
    with connected(service) as connection:
        connection.sendall(
            b"POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % size
        )
        connection.sendall(b" " * size)
        answer = receive_all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"request_too_large" in answer


def test_the_answer_comes_before_the_body_is_sent(service):
    with connected(service) as connection:
        connection.sendall(
            b"POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999\r\n\r\n "
        )
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413 ")


def test_a_client_that_awaits_the_word_to_go_on_is_refused_at_once(service):
    with connected(service) as connection:
        connection.sendall(
            b"POST /v1/compress HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n"
        )
        assert receive_all(connection).startswith(b"HTTP/1.1 413 ")
