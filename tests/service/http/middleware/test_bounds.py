"""What a small request may cost: repeats, packed bodies, patterns, text that is written around."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tamis.service.http.schemas.patterns import ALL_S
from tests.service.http.app_kit import BODY, DOCUMENTS, NEEDLE, QUESTION, served

PATIENCE_S = 5.0
"""Of this process's processor time. Each of these took half a minute or more before it was bounded;
other jobs on the machine do not count."""


@contextmanager
def patience(seconds: float = PATIENCE_S) -> Iterator[None]:
    """Asserts that what is served meanwhile takes at most this much processor time."""
    began = time.process_time()
    yield
    assert time.process_time() - began < seconds


@pytest.fixture(scope="module")
def service():
    with served(method="lexical") as running:
        yield running


def test_empty_gzip_members_are_counted_and_not_unpacked(service):
    flood = gzip.compress(b"") * 100_000
    with patience():
        answer = service.raw("/v1/compress", flood, content_encoding="gzip")
    assert answer.status_code == 400
    assert "1,000 members" in answer.json()["error"]["message"]


@pytest.mark.parametrize("coding", ["gzip", "x-gzip"])
def test_a_body_of_a_few_members_over_many_pieces_is_whole(service, coding):
    documents = [f"{i} {'word ' * 40_000}." for i in range(3)]
    data = json.dumps(BODY | {"documents": [*documents, NEEDLE]}).encode()
    cut = len(data) // 3
    parts = (data[:cut], b"", data[cut:-9], data[-9:])
    packed = b"".join(gzip.compress(part, 0) for part in parts)
    answer = service.raw("/v1/compress", packed, content_encoding=coding)
    assert answer.status_code == 200
    assert NEEDLE in answer.json()["text"]
    assert answer.json()["usage"]["input_tokens"] > 120_000


@pytest.mark.parametrize("names", [["text"] * 2, [f"f{i}" for i in range(65)]])
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/inference/v1/rerank"])
def test_fields_to_rank_by_are_few_and_each_is_named_once(service, path, names):
    """Each naming repeats the field's text: 100 kB of names made half a gigabyte of 100 kB."""
    answer = service.post(path, query="x", documents=[{"text": NEEDLE}], rank_fields=names)
    assert answer.status_code == 422
    assert "rank_fields" in answer.text


@pytest.mark.parametrize("field", ["separator", "elision", "citations"])
def test_what_is_written_around_texts_is_short(service, field):
    answer = service.post("/v1/compress", **BODY, **{field: "x " * 25_000})
    assert answer.status_code == 422
    assert "256 is the most" in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == field


def test_ids_that_citations_repeat_count_as_text(service):
    documents = [{"id": "i" * 50_000, "text": "Word one. Two."}] * 20
    body = {"question": QUESTION, "documents": documents, "citations": "{id}" * 20}
    with patience():
        answer = service.post("/v1/compress", **body)
    assert answer.status_code == 413


def test_no_method_takes_more_text_than_the_limit(service):
    documents = ["Keys. Rotated. " * 20_000] * 6
    for path, body in (
        ("/v1/compress", {"max_tokens": 40}),
        ("/v1/rerank", {}),
        ("/v1/explain", {"max_tokens": 40}),
    ):
        answer = service.post(path, query=QUESTION, documents=documents, **body)
        assert answer.status_code == 413, path
        assert "the most is 262,144 tokens" in answer.text


@pytest.mark.parametrize("more", [{"instruction": "what is " * 5000}, {"history": ["x" * 9000]}])
def test_instruction_and_history_count_as_question(service, more):
    answer = service.post("/v1/compress", **BODY, **more)
    assert answer.status_code == 422
    assert "8,192 is the most" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "pattern", ["(?:(?:a{1000}){1000}){100}", "(?:(?:a{9}){9,}){9}[b]{999}", "a|" * 600, "a{70000}"]
)
def test_a_pattern_that_unrolls_into_gigabytes_is_never_compiled(service, pattern):
    with patience():
        answer = service.post("/v1/compress", **BODY, protect={"regex": [pattern]})
    if pattern.startswith("(?:(?:a{9}"):
        assert answer.status_code == 200
        return
    assert answer.status_code == 422
    assert "at most 1,000 and 10,000 are taken" in answer.json()["error"]["message"]


def test_patterns_that_are_slow_on_each_of_many_documents_end_with_their_request(service):
    """Each stays within its quarter second, and all together took hours after the answer."""
    documents = ["a" * 24 + f" {i}." for i in range(1000)]
    protect = {"regex": [f"(a|aa)+$|(a*)*c{i}" for i in range(32)]}
    body = {"question": QUESTION, "documents": documents, "max_tokens": 40, "timeout_ms": 500}
    answer = service.post("/v1/compress", **body, protect=protect)
    assert answer.status_code == 408
    time.sleep(1.0)  # the pattern that is being matched
    with patience(0.5):
        time.sleep(2.0)


def test_every_number_of_a_long_table_is_kept_in_time(service):
    rows = [f"Row {10_000 + i} holds 99999 units." for i in range(4000)]
    body = {"question": QUESTION, "documents": [" ".join(rows)], "max_tokens": 200_000}
    with patience(4 * PATIENCE_S):
        found = service.post("/v1/compress", **body, top_n=1, protect={"numbers": True}).json()
    assert found["text"].count("Row ") == 4000


@pytest.mark.parametrize("spans", [[[20, 5]], [[10, 4000]]])
def test_a_span_to_keep_that_lies_nowhere_is_refused(service, spans):
    documents = [{"text": DOCUMENTS[0], "keep": spans}, DOCUMENTS[1]]
    answer = service.post("/v1/compress", question=QUESTION, documents=documents, max_tokens=40)
    assert answer.status_code == 422


def test_all_neighbours_of_a_short_text_are_had_at_once(service):
    with patience():
        answer = service.post("/v1/compress", **BODY, context_window=1000)
    assert answer.status_code == 200


def test_after_four_of_the_worst_patterns_a_plain_request_is_answered_in_its_time():
    slow = {"regex": ["(?:a|aa|a?a)+$", "(?:b?a|aa)+$"]}
    documents = [f"Room {n} is painted. Walls too." for n in range(99)] + ["a" * 60 + "!"]
    rules = {"protect": slow, "method": "lexical"}
    worst = {"question": QUESTION, "documents": documents, "max_tokens": 20, **rules}
    result = {"role": "tool", "tool_call_id": "1", "content": "\n".join(["a" * 60 + "!"] * 50)}
    asked = [{"role": "user", "content": QUESTION}, *[result] * 50]
    four = [
        ("/v1/compress", {**worst, "documents": documents * 10, "timeout_ms": 2000}),
        ("/v1/compress", {**worst, "questions": [f"{QUESTION} {n}" for n in range(50)]}),
        ("/v1/compress/batch", {"inputs": [worst] * 100}),
        ("/v1/compress", {"messages": asked, "ratio": 0.1, **rules}),
    ]
    del four[1][1]["question"]
    with served() as fresh, ThreadPoolExecutor(4) as pool:
        answers = [pool.submit(fresh.post, path, **body) for path, body in four]
        time.sleep(0.5)
        began = time.process_time()
        assert fresh.post("/v1/compress", **BODY, method="lexical").status_code == 200
        *single, batch, messages = [answer.result() for answer in answers]
        assert time.process_time() - began < 4 * 8 * ALL_S
    assert {answer.status_code for answer in (*single, messages)} <= {408, 422}
    assert all("of protect took" in item["error"]["message"] for item in batch.json()["data"])
