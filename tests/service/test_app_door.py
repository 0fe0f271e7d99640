"""Keys, limits, bodies, ids: what a request passes before anything is done for it."""

from __future__ import annotations

import gzip
import json
import socket
import time

import pytest

from tamis.probes.errors import BadInput
from tamis.service.cli.serve import check_public
from tamis.service.environment import load_settings
from tamis.service.keys import Keyring, given_keys, new_key, read_keys
from tamis.service.settings import KNOBS, Settings, variable
from tests.service.app_kit import DOCUMENTS, NEEDLE, QUESTION, served
from tests.service.cli_kit import tamis as run

BODY = {"query": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}


@pytest.fixture(scope="module")
def service():
    with served(max_body_bytes=100_000, body_timeout_s=1.0, header_timeout_s=0.5) as running:
        yield running


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
        (b"", 422, "the body"),
        (b'{"query": "a"}', 422, "documents"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_said(service, data, status, says):
    answer = service.raw("/v1/compress", data)
    assert answer.status_code == status
    assert says in answer.json()["error"]["message"]


def test_every_string_python_can_hold_goes_in_and_comes_out(service):
    text = "a\x00b\ud800. \udfff\U0001f600 <|im_end|> \u2028. " + NEEDLE
    data = json.dumps({"query": "\ud800?", "documents": [text], "max_tokens": 500}).encode()
    answer = service.raw("/v1/compress", data)
    assert json.loads(answer.content)["text"] == text


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml"]
)
def test_other_media_types_are_415(service, kind):
    answer = service.raw("/v1/compress", json.dumps(BODY).encode(), content_type=kind)
    assert answer.status_code == 415


def test_a_body_without_a_type_is_read_as_json(service):
    request = service.http.build_request("POST", "/v1/compress", content=json.dumps(BODY).encode())
    assert "content-type" not in request.headers
    assert service.http.send(request).status_code == 200


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
    began = time.monotonic()
    answer = service.raw("/v1/compress", bomb, content_encoding="gzip")
    assert answer.status_code == 413
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"{}")[:-9]])
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
        answer = roomy.post("/v1/compress", query=QUESTION, documents=["a."] * 100_000)
    assert answer.status_code == 422
    assert "100,000 documents" in answer.json()["error"]["message"]


def _connected(service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    made = socket.create_connection((host, int(port)), timeout=10)
    return made


def test_headers_that_never_end_close_the_connection(service):
    slow = _connected(service)
    slow.sendall(b"POST /v1/compress HTTP/1.1\r\nHost: x\r\n")
    began = time.monotonic()
    for _ in range(3):
        time.sleep(0.1)
        slow.sendall(b"X-More: 1\r\n")
    assert slow.recv(10) == b""
    assert time.monotonic() - began < 5
    slow.close()


def test_a_second_request_may_not_dawdle_either(service):
    slow = _connected(service)
    slow.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = b""
    while not answer.endswith(b"}"):  # head and body may come apart
        answer += slow.recv(1000)
    assert b"200 OK" in answer
    slow.sendall(b"GET /livez HTTP/1.1\r\n")
    assert slow.recv(1000) == b""
    slow.close()


def test_a_body_that_dribbles_is_408_and_holds_up_nobody(service):
    slow = _connected(service)
    head = b"POST /v1/compress HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    slow.sendall(head + b"Content-Length: 5000\r\n\r\n{")
    assert service.post("/v1/compress", **BODY).status_code == 200
    for _ in range(4):
        time.sleep(0.2)
        slow.sendall(b" ")
    answer = b""
    while part := slow.recv(4096):
        answer += part
    assert b"408" in answer
    assert b"body_timeout" in answer
    slow.close()


def test_unknown_paths_and_verbs_are_said(service):
    missing, verb = service.http.get("/v2/compress"), service.http.get("/v1/compress")
    assert (missing.status_code, verb.status_code) == (404, 405)
    assert missing.json()["error"]["code"] == "not_found"
    assert verb.headers["allow"] == "POST"


def test_meters_count_and_no_text_is_logged(capfd):
    with served(log_level="debug", log_format="json") as service:
        service.post("/v1/compress", **BODY)
        service.post("/v1/compress", query="zebra", documents=["zebra. crossing."], max_tokens=1)
        page = service.http.get("/metrics").text
    assert 'tamis_requests_total{route="/v1/compress",status="200"} 1.0' in page
    assert 'tamis_refused_total{code="budget_too_small"} 1.0' in page
    assert 'tamis_stage_seconds_count{stage="forward"}' in page
    assert "tamis_tokens_saved_total" in page
    assert "tamis_queue_tokens 0.0" in page
    lines = [
        json.loads(line) for line in capfd.readouterr().err.splitlines() if line.startswith("{")
    ]
    told = [line for line in lines if line.get("route") == "/v1/compress"]
    assert told[0]["tokens_in"] > told[0]["tokens_out"] > 0
    assert not any(word in json.dumps(lines) for word in ("zebra", "rotated", "painted"))


def test_keys_open_the_service_and_are_kept_as_hashes(tmp_path):
    secret, key = new_key("ada")
    file = tmp_path / "keys.txt"
    file.write_text(f"# who may\n{key.line()}\n\n")
    assert secret not in file.read_text()
    with served(keys_file=file, api_keys=("bob:0123456789abcdef",)) as service:
        wrong = [{}, {"authorization": "Bearer no"}, {"authorization": f"Basic {secret}"}]
        for headers in wrong:
            answer = service.http.post("/v1/compress", json=BODY, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error"]["code"] == "invalid_api_key"
        for right in (secret, "0123456789abcdef"):
            headers = {"authorization": f"Bearer {right}"}
            assert service.http.post("/v1/compress", json=BODY, headers=headers).status_code == 200
        assert service.http.post("/v2/rerank", json={}).json().keys() == {"message"}
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert service.http.get(path).status_code == 200
        assert 'key="ada"' in service.http.get("/metrics").text


def test_a_body_is_not_read_before_the_key_is_known():
    with served(api_keys=("bob:0123456789abcdef",)) as service:
        early = _connected(service)
        early.sendall(b"POST /v1/compress HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n")
        assert b"401" in early.recv(4096)
        early.close()


def test_a_key_has_its_own_limit_and_is_told_when_to_come_back(tmp_path):
    secret, key = new_key("slow", "2/minute")
    file = tmp_path / "keys.txt"
    file.write_text(key.line())
    with served(keys_file=file, api_keys=("fast:0123456789abcdef",)) as service:
        sent = [
            service.http.post(
                "/v1/compress", json=BODY, headers={"authorization": f"Bearer {secret}"}
            )
            for _ in range(3)
        ]
        other = {"authorization": "Bearer 0123456789abcdef"}
        assert service.http.post("/v1/compress", json=BODY, headers=other).status_code == 200
    assert [a.status_code for a in sent] == [200, 200, 429]
    assert 1 <= int(sent[2].headers["retry-after"]) <= 60


def test_keys_files_and_plain_keys_that_are_wrong_are_said(tmp_path):
    file = tmp_path / "keys.txt"
    for text, says in (
        ("ada", "line 1"),
        ("ada sha256:12", "line 1"),
        ("a sha256:" + "0" * 64 + " x", "x"),
    ):
        file.write_text(text)
        with pytest.raises(BadInput, match=says):
            read_keys(file)
    with pytest.raises(BadInput, match="at least 16"):
        given_keys(["ada:short"])
    with pytest.raises(BadInput, match="more than one key"):
        Keyring([*given_keys(["a:0123456789abcdef", "a:0123456789abcdeg"])])


def test_tamis_keys_new_shows_a_key_once_and_adds_its_hash(tmp_path):
    file = tmp_path / "keys.txt"
    made = run("keys", "new", "ada", "--file", file, "--limit", "60/minute")
    assert made.exit_code == 0
    secret = made.stdout.strip()
    assert Keyring(read_keys(file)).owner(f"Bearer {secret}") == "ada"
    assert secret not in file.read_text()
    assert run("keys", "new", "ada", "--file", file).exit_code == 2
    assert run("keys", "new", "b c", "--file", file).exit_code == 2
    assert run("keys", "new", "eve", "--limit", "often").exit_code == 2


def test_a_misspelt_variable_stops_the_start_with_the_nearest_name(monkeypatch):
    monkeypatch.setenv("TAMIS_PRT", "1")
    with pytest.raises(BadInput, match="did you mean TAMIS_PORT"):
        load_settings()
    assert run("serve").exit_code == 2
    monkeypatch.delenv("TAMIS_PRT")
    assert run("serve", "--prt", "1").exit_code == 2


def test_a_flag_goes_before_a_variable_before_the_default(monkeypatch):
    monkeypatch.setenv("TAMIS_PORT", "9000")
    monkeypatch.setenv("TAMIS_CORS_ORIGINS", "http://a, http://b")
    assert load_settings().port == 9000
    assert load_settings({"port": "9001"}).port == 9001
    assert load_settings().cors_origins == ("http://a", "http://b")
    both = load_settings({"cors_origins": ["http://c", "http://d,http://e"]})
    assert both.cors_origins == ("http://c", "http://d", "http://e")
    for name, value in (("PORT", "x"), ("PORT", "70000"), ("DEVICE", "tpu"), ("TIMEOUT_S", "-1")):
        monkeypatch.setenv(f"TAMIS_{name}", value)
        with pytest.raises(BadInput, match=f"TAMIS_{name}"):
            load_settings()
        monkeypatch.delenv(f"TAMIS_{name}")


def test_every_knob_is_a_flag_and_a_variable_in_the_help():
    shown = run("serve", "--help")
    assert shown.exit_code == 0
    squeezed = "".join(c for c in shown.output if c.isalnum() or c in "_-")
    for knob in KNOBS:
        assert variable(knob.name) in squeezed
        assert knob.name.replace("_", "-") in squeezed


def test_a_public_address_needs_a_key_or_the_word():
    with pytest.raises(BadInput, match="tamis keys new"):
        check_public(Settings(host="0.0.0.0"))
    check_public(Settings(host="0.0.0.0", allow_public=True))
    check_public(Settings(host="0.0.0.0", api_keys=("a:b",)))
    check_public(Settings())
