"""`/v1/retrieve/{hash}`: what was left out of a conversation comes back, to its owner alone."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.service.http.app_kit import served
from tests.service.http.conversation_kit import ASKS, LOG, ROWS, call, result

TESTS = [ASKS, call("bash", {"command": "pytest"}), result(LOG)]
CCR = {"mode": "ccr"}
ADA, BOB = "ada-0123456789abcdef", "bob-0123456789abcdef"
STRANGE = "".join(f"line {i} \ud800 \r\n\x0b e\u0301 \U0001f600\t\n" for i in range(200))


@pytest.fixture(scope="module")
def service():
    with served(method="lexical", retrieve_bytes=1_000_000) as running:
        yield running


def compressed(service, text: str = LOG, key: str | None = None, **fields: Any) -> dict[str, Any]:
    body = {"messages": [*TESTS[:2], result(text)], "config": CCR, **fields}
    answer = service.http.post("/v1/compress", content=dumped(body), headers=bearer(key))
    assert answer.status_code == 200, answer.text
    return answer.json()


def dumped(body: Any) -> bytes:

    return json.dumps(body).encode()


def bearer(key: str | None) -> dict[str, str]:
    return {"content-type": "application/json"} | (
        {"authorization": f"Bearer {key}"} if key else {}
    )


def retrieved(service, digest: str, key: str | None = None, **query: Any) -> Any:
    return service.http.get(f"/v1/retrieve/{digest}", params=query, headers=bearer(key))


@pytest.mark.parametrize("text", [LOG, STRANGE], ids=["log", "strange"])
def test_the_original_comes_back_to_the_byte(service, text):
    found = compressed(service, text)
    (digest,) = found["ccr_hashes"]
    assert found["compressions"][0]["hash"] == digest
    original = retrieved(service, digest).json()
    assert original["original_content"] == text
    assert original["hash"] == digest
    assert original["tool_name"] == "bash"
    assert original["original_tokens"] == found["compressions"][0]["tokens_before"]
    assert original["original_item_count"] == text.count("\n")
    assert 0 < original["compressed_item_count"] < original["original_item_count"]
    assert retrieved(service, digest).json()["retrieval_count"] == original["retrieval_count"] + 1


def test_every_marker_has_the_hash(service):
    found = compressed(service)
    shown = found["messages"][2]["content"]
    markers = [line for line in shown.splitlines() if line.startswith("[…")]
    assert markers
    hashes = [re.search(r"hash=([a-f0-9]{24})\b", marker)[1] for marker in markers]
    assert set(hashes) == set(found["ccr_hashes"])


def test_a_marker_names_the_tool_only_if_it_is_registered(service):
    assert "retrieve" not in compressed(service)["messages"][2]["content"]
    litellm = {"type": "function", "function": {"name": "headroom_retrieve"}}
    shown = compressed(service, tools=[litellm])["messages"][2]["content"]
    assert "; headroom_retrieve hash=" in shown
    behind = {"name": "mcp__x__tamis_retrieve", "input_schema": {}}
    assert "; mcp__x__tamis_retrieve hash=" in str(compressed(service, tools=[behind]))
    own = {**CCR, "retrieve_tool": "expand"}
    shown = compressed(service, tools=[{"name": "expand"}], config=own)["messages"][2]["content"]
    assert "; expand hash=" in shown
    found = compressed(service, tools=[litellm], config=own)
    assert "expand" not in found["messages"][2]["content"]
    assert any("config.retrieve_tool" in warning for warning in found["warnings"])


def test_without_the_option_nothing_is_kept(service):
    found = compressed(service, LOG.replace("room", "hall"), config={})
    assert found["ccr_hashes"] == []
    assert "hash=" not in found["messages"][2]["content"]
    stored = service.service_state.originals.stats().stored
    compressed(service, LOG.replace("room", "hall"), shadow=True)
    assert service.service_state.originals.stats().stored == stored


@pytest.mark.parametrize(
    ("lines", "expected"), [("1", slice(0, 1)), ("12-47", slice(11, 47)), ("99-99", slice(98, 99))]
)
def test_lines_by_their_numbers(service, lines, expected):
    (digest,) = compressed(service)["ccr_hashes"]
    found = retrieved(service, digest, lines=lines).json()
    assert found["original_content"] == "".join(LOG.splitlines(keepends=True)[expected])
    assert found["lines"] == [[expected.start + 1, expected.stop]]


def test_omissions_of_an_answer_are_lines_to_ask_for(service):
    found = compressed(service)
    (digest,) = found["ccr_hashes"]
    for omission in found["compressions"][0]["omissions"]:
        lines = f"{omission['first']}-{omission['last']}"
        text = retrieved(service, digest, lines=lines).json()["original_content"]
        assert text == LOG[omission["start"] : omission["end"]]


def test_a_query_picks_the_lines_that_answer(service):
    (digest,) = compressed(service)["ccr_hashes"]
    found = retrieved(service, digest, question="test_room_61").json()
    assert "tests/test_rooms.py::test_room_61 PASSED\n" in found["original_content"]
    assert len(found["original_content"]) < len(LOG) / 3
    few = retrieved(service, digest, question="test_room_61", max_tokens=60).json()
    assert few["original_content"] == "tests/test_rooms.py::test_room_61 PASSED\n"
    assert few["lines"] == [[63, 63]]


def test_a_query_that_nothing_answers_says_so(service):
    (digest,) = compressed(service)["ccr_hashes"]
    found = retrieved(service, digest, question="zebra").json()
    assert any("no line has a word" in warning for warning in found["warnings"])
    assert "E       assert 30 == 90\n" in found["original_content"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"lines": "0"}, "lines"),
        ({"lines": "9-3"}, "ends before it begins; give 3-9"),
        ({"lines": "1-1000000"}, "has 100 lines"),
        ({"lines": "a"}, "lines"),
        ({"lines": "1", "question": "a"}, "give one of them"),
        ({"max_tokens": "5"}, "answer a question"),
        ({"question": "a" * 10_000}, "8,192"),
    ],
)
def test_a_mistaken_question_is_refused_with_what_to_do(service, query, says):
    (digest,) = compressed(service)["ccr_hashes"]
    answer = retrieved(service, digest, **query)
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]


def test_another_key_gets_404_as_for_what_never_was():
    with served(
        method="lexical", retrieve_bytes=1_000_000, api_keys=(f"ada:{ADA}", f"bob:{BOB}")
    ) as service:
        (digest,) = compressed(service, key=ADA)["ccr_hashes"]
        assert retrieved(service, digest, ADA).json()["original_content"] == LOG
        other, never = retrieved(service, digest, BOB), retrieved(service, "0" * 24, BOB)
        assert other.status_code == never.status_code == 404
        assert other.json() == never.json()
        assert retrieved(service, digest).status_code == 401


def test_a_service_that_keeps_nothing_says_how_to_start_one_that_does():
    with served(method="lexical") as service:
        found = compressed(service)
        assert found["ccr_hashes"] == []
        assert "hash=" not in found["messages"][2]["content"]
        assert any("--retrieve-bytes" in warning for warning in found["warnings"])
        answer = retrieved(service, "0" * 24)
        assert answer.status_code == 404
        assert "--retrieve-bytes" in answer.json()["error"]["message"]


def test_a_request_gives_no_hash_of_what_would_give_way_to_its_own_texts():
    texts = [LOG.replace("room", f"hall_{i}") for i in range(5)]
    talk = [ASKS]
    for i, text in enumerate(texts):
        talk += [call("t", {}, f"{i}"), result(text, f"{i}")]
    with served(method="lexical", retrieve_bytes=15_000) as service:
        found = compressed(service, messages=talk)
        assert 0 < len(found["ccr_hashes"]) < 5
        assert any("cannot be retrieved" in warning for warning in found["warnings"])
        for one in found["compressions"]:
            shown = found["messages"][one["message"]]["content"]
            assert ("hash=" in shown) == (one["hash"] is not None)
            if one["hash"]:
                assert retrieved(service, one["hash"]).status_code == 200


def test_the_meters_count_what_is_kept(service):
    def meter(name: str) -> float:
        text = service.http.get("/metrics").text
        return float(re.search(rf"^tamis_originals_{name} (\S+)$", text, re.MULTILINE)[1])

    (digest,) = compressed(service, LOG.replace("room", "cellar"))["ccr_hashes"]
    assert meter("bytes") >= len(LOG)
    assert meter("entries") >= 1
    hits, misses = meter("hits_total"), meter("misses_total")
    retrieved(service, digest)
    retrieved(service, "f" * 24)
    assert (meter("hits_total"), meter("misses_total")) == (hits + 1, misses + 1)


def test_json_is_given_back_as_it_came(service):

    text = json.dumps(ROWS, indent=2)
    found = compressed(service, text)
    for digest in found["ccr_hashes"]:
        assert retrieved(service, digest).json()["original_content"] == text
