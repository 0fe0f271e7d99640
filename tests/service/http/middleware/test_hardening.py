"""What strangers may not do with a header or a name."""

from __future__ import annotations

import pytest

from tamis.service.http.runtime.settings import Settings
from tests.service.http.app_kit import BODY, connected, served
from tests.service.http.middleware.test_framing import receive_all

RERANK = b'{"query": "a", "texts": ["b"]}'
KEY = "0123456789abcdef"
LONG = "x" * 5000


@pytest.fixture(scope="module")
def service():
    with served(allow_public=True) as running:  # any name of it is served
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


@pytest.fixture(scope="module")
def local():
    """A service as `tamis serve` starts it where nothing is set."""
    with served() as running:
        yield running


@pytest.mark.parametrize("host", ["localhost", "LocalHost:1", "127.0.0.1:8080", "[::1]:9", "[::1]"])
def test_this_machine_s_names_are_served(local, host):
    assert local.http.get("/v1/models", headers={"host": host}).status_code == 200


FOREIGN = ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.nip.example"]


@pytest.mark.parametrize("host", [*FOREIGN, "", "localhost:80@evil", "[::2]:80", "::1"])
@pytest.mark.parametrize("path", ["/", "/metrics", "/v1/models", "/livez", "/v1/rerank", "/x"])
def test_a_page_whose_name_points_to_this_machine_reads_nothing(local, path, host):
    verb, body = ("POST", RERANK) if path == "/v1/rerank" else ("GET", b"")
    with connected(local) as wire:
        head = f"{verb} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        sent = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        wire.sendall((head + "Connection: close\r\n" + sent).encode() + body)
        answer = receive_all(wire)
    assert answer.startswith(b"HTTP/1.1 421 ")
    assert b"--keys-file" in answer
    assert b"--allow-public (TAMIS_ALLOW_PUBLIC)" in answer


@pytest.mark.parametrize("knobs", [{"allow_public": True}, {"api_keys": (f"ada:{KEY}",)}])
def test_a_service_for_others_is_served_under_every_name(knobs):
    with served(**knobs) as public:
        for host in FOREIGN:
            headers = {"host": host, "authorization": f"Bearer {KEY}"}
            assert public.http.get("/v1/models", headers=headers).status_code == 200


def test_the_address_that_is_listened_on_is_served_too():
    assert Settings(host="Tamis.internal").local_hosts[-1] == "tamis.internal"
    assert Settings(host="fe80::1").local_hosts[-1] == "[fe80::1]"
    assert Settings().local_hosts == ("127.0.0.1", "[::1]", "localhost")


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/x-www-form-urlencoded"])
def test_a_body_that_any_page_may_send_unasked_is_refused(service, kind):
    headers = {} if kind is None else {"content-type": kind}
    answer = service.http.post("/v1/rerank", content=RERANK, headers=headers)
    assert answer.status_code == 415
    assert "send application/json" in answer.json()["error"]["message"]


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
            verb + b" " + path.encode() + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: " + str(len(body)).encode()
            + b"\r\n" + f"Authorization: Bearer {KEY}\r\n".encode() * 2 + b"\r\n" + body
        )  # fmt: skip
        found = b"".join(iter(lambda: wire.recv(65536), b""))
    assert found.startswith(b"HTTP/1.1 401")
    assert b"two API keys" in found
