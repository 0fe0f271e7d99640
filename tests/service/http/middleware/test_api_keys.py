"""Keys: who may ask, how often, and how a key is made, kept and read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis.service.http.app import create_app
from tamis.service.http.middleware.auth import Keyring, new_key, parse_inline_keys, read_keys
from tamis.service.http.runtime.settings import Settings
from tests.service.cli.cli_kit import tamis as run
from tests.service.http.app_kit import BODY, connected, served


def test_keys_open_the_service_and_are_kept_as_hashes(tmp_path):
    secret, key = new_key("ada")
    file = tmp_path / "keys.txt"
    file.write_text(f"# who may\n{key.to_line()}\n\n")
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
        early = connected(service)
        early.sendall(b"POST /v1/compress HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n")
        assert b"401" in early.recv(4096)
        early.close()


def test_a_key_has_its_own_limit_and_the_refusal_says_when_to_retry(tmp_path):
    secret, key = new_key("slow", "2/minute")
    file = tmp_path / "keys.txt"
    file.write_text(key.to_line())
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


@pytest.mark.parametrize("jump_s", [-86_400, -7, 86_400])
def test_a_clock_that_is_set_anew_locks_nobody_out_and_lets_nobody_in(monkeypatch, jump_s):
    """The clock on the wall jumps where a machine wakes, or is set by hand or from the net."""
    wall = time.time
    with served(rate_limit="2/8 seconds") as service:
        assert [service.post("/v1/compress", **BODY).status_code for _ in range(2)] == [200, 200]
        monkeypatch.setattr(time, "time", lambda: wall() + jump_s)
        refused = service.post("/v1/compress", **BODY)
        assert refused.status_code == 429
        wait_s = int(refused.headers["retry-after"])
        assert 1 <= wait_s <= 8
        time.sleep(wait_s)
        assert service.post("/v1/compress", **BODY).status_code == 200


def test_wrong_keys_files_and_plain_keys_are_named(tmp_path):
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
        parse_inline_keys(["ada:short"])
    with pytest.raises(BadInput, match="more than one key"):
        Keyring([*parse_inline_keys(["a:0123456789abcdef", "a:0123456789abcdeg"])])


@pytest.mark.parametrize("text", ["", "# nobody yet\n\n"])
def test_a_keys_file_without_a_key_does_not_open_the_service(tmp_path, text):
    file = tmp_path / "keys.txt"
    file.write_text(text)
    with pytest.raises(BadInput, match="holds no key"):
        create_app(Settings(keys_file=file, host="0.0.0.0"))
    with pytest.raises(BadInput, match="holds no key"):
        create_app(Settings(keys_file=file, api_keys=("bob:0123456789abcdef",)))


def test_a_key_is_added_and_revoked_while_the_service_runs(tmp_path):
    file = tmp_path / "keys.txt"
    (first, ada), (second, bob) = new_key("ada"), new_key("bob")
    with served(keys_file=_with_lines(file, ada.to_line())) as service:

        def status(secret: str) -> int:
            headers = {"authorization": f"Bearer {secret}"}
            return service.http.post("/v1/compress", json=BODY, headers=headers).status_code

        assert (status(first), status(second)) == (200, 401)
        _with_lines(file, ada.to_line(), bob.to_line())
        assert (status(first), status(second)) == (200, 200)
        _with_lines(file, bob.to_line())
        assert (status(first), status(second)) == (401, 200)
        for unreadable in ("ada", ""):
            _with_lines(file, unreadable)
            with pytest.warns(UserWarning, match="the keys that were read before stay"):
                assert status(second) == 200


def _with_lines(file: Path, *lines: str) -> Path:
    file.write_text("\n".join(lines))
    return file


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
