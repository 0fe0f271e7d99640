"""The same request gets the answer that was kept, where it may; the cache is bounded and by key."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tamis.service.http.runtime.result_cache import ENTRY_BYTES, KeptResult, ResultCache
from tamis.service.http.schemas.dialects.table import ENDPOINTS
from tests.service.http.app_kit import DOCUMENTS, QUESTION, Gated, busy_ratio, pointing, served

BODY = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}
HEADER = "x-tamis-result-cache"


@pytest.fixture(scope="module")
def service():
    keys = ("ada:the-secret-of-ada", "bob:the-secret-of-bob")
    with served(result_cache_mb=1, api_keys=keys, retrieve_bytes=10_000_000) as running:
        yield running


def send(service, body, owner="ada"):
    headers = {"authorization": f"Bearer the-secret-of-{owner}"}
    answer = service.http.post("/v1/compress", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer


def test_the_same_request_gets_the_same_answer_again(service):
    body = {**BODY, "user": "first"}
    first, second = send(service, body), send(service, body)
    assert (first.headers[HEADER], second.headers[HEADER]) == ("miss", "hit")
    assert first.content == second.content
    assert second.json()["text"]
    assert second.headers["content-type"] == "application/json"


def test_another_request_or_another_owner_does_not(service):
    body = {**BODY, "user": "second"}
    send(service, body)
    assert send(service, {**body, "max_tokens": 41}).headers[HEADER] == "miss"
    assert send(service, body, owner="bob").headers[HEADER] == "miss"
    assert send(service, body).headers[HEADER] == "hit"


def test_warnings_in_the_header_are_kept_too(service):
    body = {"query": QUESTION, "input": " ".join(DOCUMENTS), "nonsense": 1}
    first, second = send(service, body), send(service, body)
    assert second.headers[HEADER] == "hit"
    assert "nonsense" in json.loads(second.headers["x-tamis-warnings"])[0]
    assert first.headers["x-tamis-warnings"] == second.headers["x-tamis-warnings"]


def test_what_asks_for_more_than_its_answer_is_not_kept(service):
    """A conversation whose originals are kept for /v1/retrieve."""
    body = {"messages": [{"role": "user", "content": "a"}], "config": {"mode": "ccr"}}
    assert HEADER not in send(service, body).headers
    assert HEADER not in send(service, body).headers


def test_an_answer_made_of_what_was_read_by_a_deadline_is_not_kept(service):
    documents = [f"{i} " + " ".join(DOCUMENTS) for i in range(40)]
    body = {"question": QUESTION, "documents": documents, "max_tokens": 40}
    late = {**body, "timeout_ms": 1, "on_error": "passthrough"}
    send(service, late)
    assert send(service, late).headers[HEADER] == "miss"


MANY = [f"{i} " + " ".join(DOCUMENTS) for i in range(8)]
OURS = {"question": QUESTION, "documents": MANY, "max_tokens": 40}
CALL = {"id": "1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
CHAT = {
    "messages": [
        {"role": "user", "content": QUESTION},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "1", "content": " ".join(MANY)},
    ],
    "token_budget": 60,
}
KEPT = {
    "one question": OURS,
    "many questions": {
        **OURS,
        "question": None,
        "questions": [QUESTION, "Which colour is the wall?"],
    },
    "shadow": {**OURS, "shadow": True},
    "scores alone": {**OURS, "return": {"text": False, "documents": False}},
    "one text": {"query": QUESTION, "input": " ".join(MANY)},
    "conversation": CHAT,
    "conversation in shadow": {**CHAT, "shadow": True},
}
"""Requests of every dialect, of which one that is short of time is answered all the same."""


def test_in_no_dialect_is_an_answer_kept_that_was_cut_short_by_time():
    """The model stands still for the first requests; the same ones then get the whole answer."""
    (compress,) = (one for one in ENDPOINTS if "/v1/compress" in one.paths)
    assert {compress.dialect_of(body) for body in KEPT.values()} == set(compress.dialects)
    reader, in_time_ms = Gated(pointing()), round(2500 * busy_ratio())
    bodies = {name: {**body, "timeout_ms": in_time_ms} for name, body in KEPT.items()}
    with served(reader, result_cache_mb=1, warmup=False, timeout_s=600.0) as service:

        def send_all():
            with ThreadPoolExecutor(len(bodies)) as pool:
                posts = pool.map(lambda body: service.post("/v1/compress", **body), bodies.values())
            return dict(zip(bodies, posts, strict=True))

        def outcomes(answers):
            assert {answer.status_code for answer in answers.values()} == {200}
            return {name: answer.headers[HEADER] for name, answer in answers.items()}

        late = send_all()
        assert outcomes(late) == dict.fromkeys(bodies, "miss")
        partial = f'tamis_fallback_total{{reason="partial"}} {len(bodies) + 1}.0'
        assert partial in service.http.get("/metrics").text  # one has two questions
        reader.open()
        whole, again = send_all(), send_all()
        assert outcomes(whole) == dict.fromkeys(bodies, "miss")
        assert outcomes(again) == dict.fromkeys(bodies, "hit")
    for name in bodies:
        assert again[name].content == whole[name].content
        assert again[name].content != late[name].content


def test_the_meters_count_hits_and_misses(service):
    body = {**BODY, "user": "third"}
    send(service, body), send(service, body)
    meters = service.http.get("/metrics").text
    assert "tamis_results_hits_total" in meters
    assert "tamis_results_misses_total" in meters
    (size,) = [line for line in meters.splitlines() if line.startswith("tamis_results_bytes ")]
    assert 0 < float(size.split()[1]) <= 1e6


def test_a_service_without_a_cache_says_nothing_of_one():
    with served() as running:
        answer = running.post("/v1/compress", **BODY)
        assert HEADER not in answer.headers
        assert "tamis_results" not in running.http.get("/metrics").text


def result(size: int) -> KeptResult:
    return KeptResult(b"a" * (size - ENTRY_BYTES), (), 1, 1)


def test_the_cache_is_bounded_and_what_was_not_asked_for_the_longest_goes_first():
    cache = ResultCache(3000)
    for name in (b"a", b"b", b"c"):
        cache.keep(name, result(1000))
    assert cache.find(b"a") is not None
    cache.keep(b"d", result(1000))
    assert cache.find(b"b") is None
    assert all(cache.find(name) for name in (b"a", b"c", b"d"))
    cache.keep(b"e", result(4000))
    assert cache.find(b"e") is None
    assert cache.stats().bytes == 3000
    assert cache.stats().evicted == 1
    cache.keep(b"a", result(900))
    assert cache.stats().bytes == 2900


def test_other_models_have_other_keys():
    keys = {
        ResultCache(1, versions).key_of(owner, body)
        for versions in (("1", "a"), ("2", "a"))
        for owner in ("ada", "bob")
        for body in (b"{}", b"[]")
    }
    assert len(keys) == 8
