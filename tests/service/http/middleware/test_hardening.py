"""What strangers may not do with a header or a name."""

from __future__ import annotations

import pytest

from tests.service.http.app_kit import BODY, connected, served

KEY = "0123456789abcdef"
LONG = "x" * 5000


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


@pytest.mark.parametrize(
    "path", ["/v1/rerank/", "/v1/models/", "/assets", "/docs/", "//evil.example/v1/rerank/"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_answer_sends_a_client_to_the_host_that_it_named(service, path, method):
    headers = {"host": "evil.example", "x-forwarded-host": "evil.example"}
    answer = service.http.request(method, service.url + path, json={}, headers=headers)
    assert "location" not in answer.headers
    assert answer.status_code in (404, 405)
    assert "evil.example" not in str(answer.headers)


def test_a_slash_too_many_is_explained(service):
    message = service.post("/v1/rerank/").json()["error"]["message"]
    assert "leave out the slash at its end" in message


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/compress", {**BODY, "model": LONG}),
        ("/v1/compress", {**BODY, "method": LONG}),
        ("/v1/compress", {**BODY, "tokenizer": LONG}),
        ("/v1/compress", {**BODY, "language": LONG}),
        ("/v1/compress", {**BODY, LONG: 1}),
        ("/v1/compress", {**BODY, "protect": {"regex": ["(" + "x" * 900]}}),
        ("/v1/compress/batch", {"inputs": [{**BODY, "model": LONG}]}),
        ("/v1/rerank", {"query": "a", "documents": [{"b": "c"}], "rank_fields": [LONG]}),
        ("/v1/search", {"question": "a", "index": LONG}),
        (f"/{LONG}", {}),
        (f"/v1/models/{LONG}", {}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_long_names_are_cut_in_messages(service, path, body):
    answer = service.post(path, **body)
    assert "x" * 100 not in answer.text
    assert "x" * 100 not in service.http.get(path).text


def test_the_page_runs_scripts_of_its_own_alone(service):
    answer = service.http.get("/")
    policy = dict(
        part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in str(policy)
    for inline in ("<script>", "<style", "style=", "onclick", "javascript:"):
        assert inline not in answer.text


@pytest.mark.parametrize("path", ["/v1/models", "/v1/rerank"])
def test_two_authorization_headers_are_refused(path):
    """A gateway in front may have checked the other one."""
    body = b'{"query": "a", "documents": ["b"]}'
    verb = b"GET" if path == "/v1/models" else b"POST"
    with served(api_keys=(f"ada:{KEY}",)) as guarded, connected(guarded) as wire:
        wire.sendall(
            verb + b" " + path.encode() + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: " + str(len(body)).encode()
            + b"\r\n" + f"Authorization: Bearer {KEY}\r\n".encode() * 2 + b"\r\n" + body
        )  # fmt: skip
        found = b"".join(iter(lambda: wire.recv(65536), b""))
    assert found.startswith(b"HTTP/1.1 401")
    assert b"two API keys" in found
