"""What of a stranger's request reaches the upstream, with real sockets on both sides."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.tests.gateway.chat_server import chat_server
from tamis.probes.errors import BadInput
from tamis.service.engine.errors import MethodNotAllowed, NotFound
from tamis.service.http.app import create_app
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.server import create_server
from tamis_agents.gateway.forwarding import CHAT_PATHS, MODEL_CALLS, ForwardedPaths, Upstream
from tests.service.http.app_kit import connected, pointing, served, wait_until
from tests.service.http.middleware.test_framing import receive_all

CHAT = "/v1/chat/completions"
KEY = "0123456789abcdef"
SECRET = "sk-upstream-aaaabbbbccccdddd"
BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "few words"}]}).encode()
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


@pytest.fixture(scope="module")
def upstream():
    with chat_server() as running:
        yield running


@pytest.fixture(scope="module")
def guarded(upstream):
    """A service with a key of its own, and one of the upstream's below a path."""
    with served(
        upstream=f"{upstream.url}/openai/v1",
        upstream_api_key=SECRET,
        upstream_paths=("files",),
        api_keys=(f"ada:{KEY}",),
        method="lexical",
        body_timeout_s=1.0,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def plain(upstream):
    """A service without keys of its own that pays with one of the upstream's."""
    knobs = {"upstream_api_key": SECRET, "cors_origins": ("https://chat.example",)}
    with served(upstream=upstream.url, method="lexical", **knobs) as running:
        yield running


def wire(service, head: str, body: bytes = b"") -> bytes:
    """What comes back for these very bytes, until the service closes the connection."""
    with connected(service) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
        return receive_all(connection)


def ask(service, method: str, target: str, *headers: str, body: bytes = BODY, key: str = KEY):
    """The status of a request that is sent as it is written, and all that came back."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
    lines += [f"Authorization: Bearer {key}"] * bool(key)
    lines += [f"Content-Length: {len(body)}"] * bool(body)
    answer = wire(service, "\n".join(lines), body)
    return int(answer.split(b" ", 2)[1]), answer


def arrivals(upstream, since: int) -> list[tuple[str, str]]:
    return [(one.method, one.path) for one in upstream.exchanges[since:]]


PATHS = (CHAT, "/v1/messages", "/v1/embeddings", "/v1/files/x", "/v1/nothing", "/v1/")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_nothing_goes_on_without_a_key_whatever_the_method(guarded, upstream, method, path):
    before = len(upstream.exchanges)
    status, _ = ask(guarded, method, path, key="")
    assert status == 401
    assert ask(guarded, method, path, key="sk-wrong-0123456789")[0] == 401
    assert arrivals(upstream, before) == []


@pytest.mark.parametrize("method", METHODS)
def test_before_the_key_is_checked_no_byte_of_the_body_is_read(guarded, method):
    """The answer comes although the body never does."""
    head = f"{method} {CHAT} HTTP/1.1\nHost: localhost\nContent-Length: 60000000"
    began = time.monotonic()
    with connected(guarded) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 401")
    assert time.monotonic() - began < 0.9  # before body_timeout_s


def test_a_preflight_is_answered_here(plain, guarded, upstream):
    before = len(upstream.exchanges)
    preflight = {
        "origin": "https://chat.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    for path in (CHAT, "/v1/messages", "/v1/embeddings"):
        answer = plain.http.options(path, headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://chat.example"
        assert plain.http.options(path, headers={"origin": "https://x"}).status_code in (403, 405)
        assert guarded.http.options(path, headers=preflight).status_code == 401
    assert arrivals(upstream, before) == []


@pytest.mark.parametrize("path", CHAT_PATHS)
@pytest.mark.parametrize("method", [m for m in METHODS if m != "POST"])
def test_a_call_of_a_model_goes_on_with_post_alone(guarded, upstream, method, path):
    """GET lists the stored chats of everybody who shares the upstream's key."""
    before = len(upstream.exchanges)
    status, answer = ask(guarded, method, path)
    assert status == 405
    assert method == "HEAD" or b"--upstream-paths" in answer
    assert arrivals(upstream, before) == []


@pytest.mark.parametrize("path", sorted(MODEL_CALLS))
def test_a_call_of_a_model_arrives_below_the_upstream_s_own_path(guarded, upstream, path):
    before = len(upstream.exchanges)
    assert ask(guarded, "POST", f"{path}?a=b%20c&d=%2E%2E")[0] == 200
    assert arrivals(upstream, before) == [("POST", f"/openai{path}?a=b%20c&d=%2E%2E")]
    is_anthropic = path.startswith("/v1/messages")
    name, sent = ("x-api-key", SECRET) if is_anthropic else ("authorization", f"Bearer {SECRET}")
    assert upstream.exchanges[-1].header(name) == sent


@pytest.mark.parametrize("path", ["/v1/files", "/v1/files/a%20b", "/v1/files/x/content"])
@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
def test_what_the_setting_adds_goes_on_with_every_method(guarded, upstream, method, path):
    before = len(upstream.exchanges)
    assert ask(guarded, "DELETE" if method == "PATCH" else method, path, body=b"")[0] in (200, 501)
    assert arrivals(upstream, before) in (
        [("GET", f"/openai{path}")],
        [],  # the chat server knows GET and POST; a DELETE is refused by it
    )


ESCAPES = (
    *("/v1/../admin/keys", "/v1/../../admin/keys?x=1", "/v1/./chat/completions", "/v1/files/.."),
    *("/v1/files/../../admin", "/v1/files/%2e%2e/admin", "/v1/files/%2E%2E/%2E%2E/admin"),
    *("/v1/files/.%2e/admin", "/v1/files/%252e%252e/admin", "/v1/files/%25252e%25252e/admin"),
    *("/v1/files/%u002e%u002e/admin", "/v1/files/50%/admin"),
    *("/v1/files/..%2fadmin", "/v1/files/..%2Fadmin", "/v1/files/..%252fadmin"),
    *("/v1/files/a%25b", "/v1/files/100%25", "/v1/files/" + "a" * 2000),
    *("/v1/files/..%5cadmin", "/v1/files/..\\admin", "/v1/files/..%255cadmin", "/v1/files\\..\\a"),
    *("/v1/files/..;/admin", "/v1/files/..;a=b/admin", "/v1/files/%2e%2e%3b/admin"),
    *("/v1/files/..%00/admin", "/v1/files/%00", "/v1/files/..%20/admin", "/v1/files/..%09/admin"),
    *("/v1/files/%c0%ae%c0%ae/admin", "/v1/files/%ef%bc%8e%ef%bc%8e/admin", "/v1/files/%ff"),
    *("/v1/files/%e2%80%ae", "/v1/files//x", "/v1//files", "//v1/files", "/v1/files/", "/v1/"),
    *("/v1/files/%0d%0aHost:%20x", "/v1/files/..#/admin", "/v1/files#/../../admin"),
    *("//v1/../files", "/V1/chat/completions", "/v1/Chat/Completions", "/v1/chat/completions/"),
    *("/v1/chat%2fcompletions", "/v1/chat/%63ompletions", "/v1/chat/completions;a=b"),
    *("/v1/chat/completions/../../../admin", "/v1/filesystem", "/v1/file", "/v1/organization"),
    *("http://evil.example/v1/chat/completions", "http://evil.example/v1/files/../x", "*"),
    *("/assets/../v1/chat/completions", "/v1/cluster/auth/../../chat/completions"),
    *("/v2/chat/completions", "/v1/realtime", "/v1/responses/resp_1", "/v1/batches"),
)  # fmt: skip


@pytest.mark.parametrize("target", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_path_leaves_what_is_sent_on(guarded, upstream, method, target):
    before = len(upstream.exchanges)
    status, answer = ask(guarded, method, target)
    assert arrivals(upstream, before) == []
    assert 400 <= status < 500
    if status == 404 and target.startswith("/v1/") and "/cluster/" not in target:
        assert b"is not sent on to the upstream" in answer


def test_a_path_of_60_kilobytes_stops_nobody():
    """It is checked in the event loop, where everybody waits."""
    began = time.thread_time()
    for path in ("/v1/%" + "25" * 30_000, "/v1/" + "%cc%a0%cc%81" * 5000, "/v1/" + "a/" * 30_000):
        with pytest.raises(NotFound, match="characters, and 2,000 is the most"):
            ForwardedPaths(["files"]).check("GET", path)
    for path in ("/v1/%" + "25" * 990, "/v1/" + "%cc%a0%cc%81" * 160, "/v1/" + "a/" * 990):
        with pytest.raises(NotFound, match="is not sent on"):
            ForwardedPaths(["files"]).check("GET", path)
    assert time.thread_time() - began < 0.05


NAMES = st.text(st.sampled_from("./\\%2e5cfFE;a \u2024\uff0e\uff0f\x00\u202e"), max_size=12)


@given(NAMES, st.integers(0, 3))
def test_no_server_finds_a_way_up_in_what_is_sent_on(name, times):
    """However often it decodes, and with whatever it takes for a slash."""
    path = f"/v1/files/{name}"
    for _ in range(times):
        path = "/v1/files/" + "".join(f"%{b:02x}" for b in path[10:].encode())
    try:
        ForwardedPaths(["files"]).check("GET", path)
    except (NotFound, MethodNotAllowed):
        return
    for _ in range(5):
        parts = path.replace("\\", "/").split("/")
        assert parts[:3] == ["", "v1", "files"]
        assert not {"", ".", ".."} & {p.partition(";")[0].strip() for p in parts[3:]}
        path = httpx.URL(f"http://a{path}").path


@pytest.mark.parametrize(
    "given", ["", "/", "v1", "/v1/", "..", "a/../b", "a%2fb", "a//b", ".a", "*"]
)
def test_a_path_of_the_settings_is_below_v1_or_stops_the_start(given):
    with pytest.raises(BadInput, match="upstream_paths"):
        ForwardedPaths([given])
    for written in ("files", "/files/", "/v1/files", "v1/files"):
        ForwardedPaths([written]).check("DELETE", "/v1/files/x")
    with pytest.raises(BadInput, match="upstream_paths"):
        Settings(upstream_paths=("files",))


def test_headers_that_name_another_path_method_or_payer_stay_here(guarded, upstream):
    hostile = {
        "X-Original-URL": "/admin",
        "X-Rewrite-URL": "/admin",
        "X-HTTP-Method-Override": "DELETE",
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil.example",
        "Forwarded": "host=evil.example",
        "Cookie": "session=1",
        "X-API-Key": "sk-of-the-client",
        "API-Key": "sk-of-the-client",
        "OpenAI-Organization": "org-other",
        "OpenAI-Project": "proj-other",
        "Proxy-Authorization": "Basic eA==",
        "TE": "trailers",
    }
    assert ask(guarded, "POST", CHAT, *(f"{n}: {v}" for n, v in hostile.items()))[0] == 200
    asked = upstream.exchanges[-1]
    sent = {name.lower() for name, _ in asked.headers}
    assert not sent & {name.lower() for name in hostile}
    assert asked.header("authorization") == f"Bearer {SECRET}"
    assert asked.header("host") == upstream.url.removeprefix("http://")
    assert KEY not in str(asked.headers)


@pytest.mark.parametrize(
    "headers",
    [
        ("Connection: authorization, content-length, host",),
        ("Connection: x-api-key", "X-API-Key: x"),
        ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
         "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    ],
)  # fmt: skip
def test_no_connection_header_changes_what_arrives(guarded, upstream, headers):
    lines = [f"POST {CHAT} HTTP/1.1", "Host: localhost", *headers, f"Authorization: Bearer {KEY}"]
    with connected(guarded) as connection:
        head = "\r\n".join([*lines, f"Content-Length: {len(BODY)}"])
        connection.sendall(head.encode() + b"\r\n\r\n" + BODY)
        assert connection.recv(1 << 16).startswith((b"HTTP/1.1 200", b"HTTP/1.1 4"))
    for asked in upstream.exchanges[-1:]:
        assert asked.body == BODY
        assert asked.header("upgrade") is None


@pytest.mark.parametrize("path", [CHAT, "/v1/realtime", "/v1/files"])
def test_a_websocket_reaches_nothing(guarded, upstream, path):
    before = len(upstream.exchanges)
    status, _ = ask(
        guarded, "GET", path, "Upgrade: websocket", "Connection: Upgrade", key="", body=b""
    )
    assert 400 <= status < 500
    assert arrivals(upstream, before) == []


def test_two_bodies_in_one_are_refused(guarded, upstream):
    before = len(upstream.exchanges)
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
    smuggled = b"GET /v1/files HTTP/1.1\r\nHost: localhost\r\n\r\n"
    head = f"POST {CHAT} HTTP/1.1\nHost: a\nAuthorization: Bearer {KEY}\nContent-Length: 4\n"
    answer = wire(guarded, head + "Transfer-Encoding: chunked", chunked + smuggled)
    assert answer.startswith(b"HTTP/1.1 400")
    assert arrivals(upstream, before) == []


def test_two_keys_are_refused(guarded, upstream):
    before = len(upstream.exchanges)
    status, answer = ask(guarded, "POST", CHAT, "Authorization: Bearer sk-first-0123456789")
    assert status == 401
    assert b"two API keys" in answer
    assert arrivals(upstream, before) == []


MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
GEMINI = "/v1beta/models/gemini-3-pro:generateContent"
EMBED = "/v1beta/models/gemini-embedding:embedContent"
VERSION = "anthropic-version: 2023-06-01"
PLACES = [
    (MESSAGES, "x-api-key: {}", "x-api-key"),
    (COUNT, "X-API-Key: {}", "x-api-key"),
    ("/v1/files", f"x-api-key: {{}}\n{VERSION}", "x-api-key"),
    (GEMINI, "x-goog-api-key: {}", "x-goog-api-key"),
    (EMBED, "x-goog-api-key: {}", "x-goog-api-key"),
    (f"{GEMINI}?alt=sse&key={{}}&x=%20%2b+", "x-a: b", "x-goog-api-key"),
    (f"{GEMINI}?%6b%65y={{}}", "x-a: b", "x-goog-api-key"),
    *((path, "authorization: bearer {}", "x-api-key") for path in (MESSAGES, COUNT)),
    (f"{GEMINI}?key={{}}", "authorization: Bearer {}", "x-goog-api-key"),
    (f"{CHAT}?key={{}}", "authorization: Bearer {}\nx-api-key: {}", "authorization"),
    ("/v1/embeddings", "authorization: Bearer {}\nx-goog-api-key: {}", "authorization"),
]


@pytest.mark.parametrize(("target", "header", "taken"), PLACES)
def test_a_key_is_taken_where_a_vendor_s_client_puts_it_and_the_upstream_s_goes_on(
    guarded, upstream, target, header, taken
):
    """Whatever header has it; no other byte of the query changes."""
    before = len(upstream.exchanges)
    lines = header.replace("{}", KEY).split("\n")
    assert ask(guarded, "POST", target.replace("{}", KEY), *lines, key="")[0] == 200
    (asked,) = upstream.exchanges[before:]
    assert KEY not in f"{asked.path} {asked.headers}"
    keys = {n: asked.header(n) for n in ("authorization", "x-api-key", "x-goog-api-key")}
    sent = f"Bearer {SECRET}" if taken == "authorization" else SECRET
    assert {name: value for name, value in keys.items() if value} == {taken: sent}
    query = "?alt=sse&x=%20%2b+" if "alt" in target else ""
    assert asked.path == f"/openai{target.partition('?')[0]}{query}"


@pytest.mark.parametrize(
    ("target", "header"),
    [
        (MESSAGES, "x-goog-api-key: {}"),
        (f"{MESSAGES}?key={{}}", "x-a: b"),
        (GEMINI, "x-api-key: {}"),
        (CHAT, "x-api-key: {}"),
        (f"{CHAT}?key={{}}", "x-goog-api-key: {}"),
        ("/v1/compress", "x-api-key: {}"),
        (f"{GEMINI}?Key={{}}", "x-a: b"),
        (f"{GEMINI}?key=", "x-a: b"),
        (MESSAGES, "x-api-key: {}0"),
        (MESSAGES, "x-api-key: {}\nx-api-key: {}"),
        (GEMINI, "x-goog-api-key: {}\nx-goog-api-key: sk-other-0123456789"),
        (f"{GEMINI}?key={{}}&key=sk-other-0123456789", "x-a: b"),
        (MESSAGES, "x-api-key: {}\nauthorization: Bearer sk-wrong-0123456789"),
    ],
)
def test_no_key_is_taken_where_the_api_of_a_path_has_none_or_of_two(
    guarded, upstream, target, header
):
    before = len(upstream.exchanges)
    lines = header.replace("{}", KEY).split("\n")
    assert ask(guarded, "POST", target.replace("{}", KEY), *lines, key="")[0] == 401
    assert arrivals(upstream, before) == []


@pytest.mark.parametrize(
    ("target", "header", "_"), [one for one in PLACES if "files" not in one[0]]
)
def test_without_a_key_of_the_upstream_s_the_client_s_own_goes_through(
    service, upstream, target, header, _
):
    """Two of them, too: what they mean is for the upstream to say."""
    target, header = target.replace("{}", "sk-mine&key=2"), header.replace("{}", "sk-mine")
    lines = header.split("\n")
    assert ask(service, "POST", target, *lines, key="")[0] == 200
    asked = upstream.exchanges[-1]
    assert asked.path == target
    for name, _, value in (line.partition(": ") for line in lines):
        assert asked.header(name.lower()) == value


def test_one_date_comes_back_and_no_server(guarded):
    _, answer = ask(guarded, "POST", CHAT)
    names = [line.partition(b":")[0].lower() for line in answer.splitlines()]
    assert names.count(b"date") == 1
    assert b"server" not in names


def test_a_page_of_others_does_not_spend_the_service_s_key(plain, guarded, upstream):
    """A browser sends a text without asking: the page does not see the answer, but it is paid."""
    before = len(upstream.exchanges)
    for origin in ("https://evil.example", "null"):
        answer = plain.raw(CHAT, BODY, content_type="text/plain", origin=origin)
        assert answer.status_code == 403
        assert "--cors-origins" in answer.json()["error"]["message"]
    for lines in (
        ("Origin: https://evil.example", "Origin: http://localhost"),
        ("Origin: http://localhost", "Origin: http://localhost"),
        ("Origin: https://evil.example", "Origin: https://chat.example"),
        ("Origin: null",),
        ("Origin:",),
    ):
        assert ask(plain, "POST", CHAT, *lines, key="")[0] == 403, lines
    assert arrivals(upstream, before) == []
    for origin in ("https://chat.example", plain.url):
        assert plain.raw(CHAT, BODY, origin=origin).status_code == 200
    sent = {"origin": "app://desktop", "authorization": f"Bearer {KEY}"}
    assert guarded.raw(CHAT, BODY, **sent).status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/embeddings"])
def test_a_body_that_does_not_come_is_given_up(guarded, upstream, path):
    before, began = len(upstream.exchanges), time.monotonic()
    head = f"POST {path} HTTP/1.1\nHost: a\nAuthorization: Bearer {KEY}\nContent-Length: 60000000"
    answer = wire(guarded, head, b"{" * 1000)
    assert time.monotonic() - began < 8
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"body_timeout" in answer
    assert arrivals(upstream, before) == []


def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(guarded):
    head = f"POST {CHAT} HTTP/1.1\nHost: localhost\nAuthorization: Bearer {KEY}\n"
    with connected(guarded) as connection:
        connection.sendall(f"{head}Content-Length: {65 << 20}\n\n".replace("\n", "\r\n").encode())
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 413")


@pytest.fixture
def room(plain):
    """The room for bodies, of which there is little."""
    found = next(m.kwargs["room"] for m in plain.app.user_middleware if "room" in m.kwargs)
    before, found.max_bytes = found.max_bytes, 3 << 20
    yield found
    found.max_bytes = before


@pytest.mark.parametrize("path", [CHAT, "/v1/compress"])
def test_all_bodies_together_are_bounded_and_their_room_comes_back(plain, room, path):
    """Those that are forwarded and those that are served here share it."""
    body = BODY[:-1] + b" " * (1 << 20) + b"}"
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % (
        path.encode(),
        len(body),
    )
    head += b"Content-Type: application/json\r\n\r\n"
    waiting: list[socket.socket] = [connected(plain) for _ in range(2)]
    for connection in waiting:
        connection.sendall(head + body[:-1])  # all but the last byte
    wait_until(lambda: room.held_bytes >= 2 * (len(body) - 1))
    answer = plain.raw(CHAT, body)
    assert answer.status_code == 429
    assert "Retry-After" in answer.headers
    assert answer.json()["error"]["code"] == "overloaded"
    for connection in waiting:
        connection.close()
    wait_until(lambda: plain.raw(CHAT, body).status_code == 200)


def test_as_many_chats_wait_at_a_time_as_the_service_takes():
    """httpx's own pool has a hundred connections."""
    many = 130
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    head = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Tamis: off\r\n"
    chat = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
    with socket.create_server(("127.0.0.1", 0), backlog=many) as silent:
        silent.settimeout(20)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with served(upstream=url, method="lexical", max_connections=200) as running:
            clients = [connected(running) for _ in range(many)]
            for client in clients:
                client.sendall(chat)
            asked = [silent.accept()[0] for _ in range(many)]  # before one of them is answered
            for connection in asked:
                assert connection.recv(1 << 16)
                connection.sendall(answer)
                connection.close()
            for client in clients:
                client.settimeout(30)
                with client:
                    assert receive_all(client).startswith(b"HTTP/1.1 200")


@contextmanager
def narrow(upstream, **knobs):
    """A service whose connections to the upstream are fewer than its own."""
    app = create_app(
        Settings(port=0, log_level="error", threads=1, upstream=upstream.url, method="lexical",
                 max_connections=1, upstream_timeout_s=30.0, **knobs),
        pointing(),
    )  # fmt: skip
    server = create_server(Settings(port=0, log_level="error", max_connections=100), app)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_a_chat_that_gets_no_connection_is_told_so_soon_and_by_us(upstream):
    upstream.gate.clear()
    body = BODY[:-1] + b', "stream": true}'
    with narrow(upstream) as url:
        with httpx.stream("POST", f"{url}{CHAT}", content=body, timeout=60):
            began = time.monotonic()
            answer = httpx.post(f"{url}{CHAT}", content=BODY, timeout=60)
            taken_s = time.monotonic() - began
        upstream.gate.set()
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "upstream_busy")
    assert "1 connections to the upstream are in use" in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) >= 1
    assert taken_s < 20  # upstream_timeout_s is 30


class Leaky(BaseHTTPRequestHandler):
    """An upstream that tells what it was sent, cut in the middle of the key, and sends away."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def log_message(self, *_):
        pass

    def do_POST(self):
        type(self).asked += 1
        request = self.rfile.read(int(self.headers["content-length"]))
        key = self.headers["authorization"]
        packed = "gzip" in self.headers.get("accept-encoding", "") and b"packed" in request
        status = 307 if b"elsewhere" in request else 401
        body = f'{{"error": "no such key: {key}"}} {key}'.encode()
        at = body.index(SECRET[:9].encode()) + 9
        body, at = (gzip.compress(body), 10) if packed else (body, at)
        self.send_response(status)
        self.send_header("x-seen", key)
        self.send_header("set-cookie", "session=admin")
        self.send_header("strict-transport-security", "max-age=1; includeSubDomains")
        self.send_header("access-control-allow-origin", "*")
        self.send_header("location", f"http://127.0.0.1:{self.server.server_address[1]}/other")
        self.send_header("transfer-encoding", "chunked")
        if packed:
            self.send_header("content-encoding", "gzip")
        self.end_headers()
        for part in (body[:at], body[at:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
            self.wfile.flush()
            time.sleep(0.05)


@pytest.fixture(scope="module")
def leaky():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Leaky)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    knobs = {"upstream_api_key": SECRET, "method": "lexical"}
    with served(upstream=f"http://127.0.0.1:{server.server_address[1]}", **knobs) as running:
        yield running
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("codings", ["gzip, br, zstd", "identity"])
@pytest.mark.parametrize("content", [b"{}", b'{"a": "packed"}', b'{"a": "elsewhere"}'])
def test_the_upstream_s_key_does_not_come_back(leaky, content, codings):
    before = Leaky.asked
    answer = leaky.raw(CHAT, content, accept_encoding=codings)
    assert Leaky.asked == before + 1  # no redirect is followed
    assert SECRET not in answer.text + str(answer.headers)
    if answer.status_code == 401:
        hidden = "*" * len(SECRET)
        assert answer.text == f'{{"error": "no such key: Bearer {hidden}"}} Bearer {hidden}'
    gone = {"set-cookie", "strict-transport-security", "access-control-allow-origin"}
    assert not gone & set(answer.headers)


def test_a_word_in_place_of_a_key_is_no_secret(upstream):
    """Servers without keys are given one such as EMPTY, and answers may have that word."""
    with served(upstream=upstream.url, method="lexical", upstream_api_key="slow down") as running:
        answer = running.raw(CHAT, BODY[:-1] + b', "fail_with": 1}')
    assert answer.json() == {"error": {"message": "slow down"}}


@pytest.mark.parametrize("key", [f"{SECRET}\n", f"{SECRET}\r\nX: y", "sk-\u00e9" * 9])
def test_a_key_that_no_header_can_hold_stops_the_start_and_is_not_shown(upstream, key):
    """As every request would fail with an error that names it."""
    with pytest.raises(BadInput) as caught:
        Upstream(Settings(upstream=upstream.url, upstream_api_key=key))
    assert SECRET not in str(caught.value)
    assert "sk-" not in str(caught.value)


def test_an_upstream_that_is_away_is_not_named_to_strangers():
    address = "http://user:password-0123@127.0.0.1:9/internal"
    with served(upstream=address, method="lexical") as running:
        answer = running.raw(CHAT, BODY)
    assert answer.status_code == 502
    assert "127.0.0.1" not in answer.text
    assert "password-0123" not in answer.text
