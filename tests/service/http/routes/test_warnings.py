"""What `/v1/compress` says beside the text: scores of documents, and why nothing was left out."""

from __future__ import annotations

import math
import threading

import pytest

from tests.service.http.app_kit import (
    DOCUMENTS,
    NEEDLE,
    QUESTION,
    Gated,
    Running,
    busy_ratio,
    pointing,
    served,
    wait_until,
)

REASON = "x-tamis-passthrough-reason"
BODY = {"question": QUESTION, "documents": [*DOCUMENTS, ""], "max_tokens": 40}


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def documents(service: Running, path: str = "/v1/compress", **fields):
    answer = service.post(path, **BODY, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/v1/compress", "/v1/explain"])
@pytest.mark.parametrize("method", ["lexical", "question_rows"])
def test_a_document_s_score_is_from_0_to_1_with_the_method_s_own_beside_it(service, path, method):
    found = documents(service, path, method=method)
    scores = [d["evidence_score"] for d in found["results"]]
    assert all(0 <= score <= 1 for score in scores)
    assert scores[0] > scores[1] >= scores[2] == 0
    raw = [d["raw_score"] for d in found["results"]]
    if found["calibrated"]:
        assert raw[:2] == scores[:2]
    else:
        assert scores[:2] == pytest.approx([1 / (1 + math.exp(-score)) for score in raw[:2]])
    units = documents(service, "/v1/explain", method=method)["results"][0]["units"]
    assert raw[0] == max(unit["score"] for unit in units)


def test_words_alone_score_beyond_1_and_the_score_does_not():
    with served(method="lexical") as plain:
        best = documents(plain)["results"][0]
        reranked = plain.post("/v2/rerank", query=QUESTION, documents=[NEEDLE]).json()["results"]
    assert best["raw_score"] > 1 > best["evidence_score"] > 0.5
    assert 0 < reranked[0]["relevance_score"] < 1


def test_what_words_say_after_a_deadline_is_from_0_to_1_too():
    """The first window is never read: all is placed by its words, whose scores have no bound."""
    gated = Gated(pointing())
    with served(gated, warmup=False) as slow:
        found = documents(slow, timeout_ms=200)
        gated.open()
    assert found["status"] == "partial"
    assert found["counts"]["units_scored"] == 0
    assert all(0 <= d["evidence_score"] <= 1 for d in found["results"])
    assert max(d["raw_score"] for d in found["results"][:2]) > 1


def test_where_nothing_was_scored_there_is_no_score(service):
    found = service.post("/v1/compress", **{**BODY, "max_tokens": 1000}).json()
    assert {(d["evidence_score"], d["raw_score"]) for d in found["results"]} == {(None, None)}


def test_a_context_that_came_back_whole_for_an_error_says_which_in_a_header():
    gated = Gated(pointing())
    with served(gated, warmup=False, timeout_s=2.5 * busy_ratio()) as slow:
        failed = slow.post("/v1/compress", **BODY)
        one = slow.post("/v1/compress", **BODY, on_error="passthrough")
        asks = {**BODY, "question": None, "questions": [QUESTION, "Which colour?"]}
        many = slow.post("/v1/compress", **asks, on_error="passthrough")
        shown = slow.post("/v1/explain", **BODY, on_error="passthrough")
        mixed = slow.post(
            "/v1/compress/batch",
            inputs=[{**BODY, "on_error": "passthrough"}, {**BODY, "method": "lexical"}],
        )
        gated.open()
    assert failed.status_code == 504
    assert REASON not in failed.headers
    for answer in (one, many, shown, mixed):
        assert answer.status_code == 200
        # alone, or beside what the first ones left in the queue
        assert set(answer.headers[REASON].split(", ")) <= {"overloaded", "timeout"}
    assert one.headers[REASON] == "timeout"
    assert [d["compression"]["status"] for d in mixed.json()["data"]] == ["passthrough", "ok"]


def test_a_full_queue_is_reported_in_the_same_header():
    gated = Gated(pointing())
    long = {"question": QUESTION, "documents": [" ".join(DOCUMENTS * 10)], "max_tokens": 40}
    with served(gated, warmup=False, queue_tokens=400) as full:
        first = threading.Thread(target=full.post, args=("/v1/compress",), kwargs=long)
        first.start()
        wait_until(lambda: gated.calls == 1)
        whole = full.post("/v1/compress", **long, on_error="passthrough")
        gated.open()
        first.join(30)
        page = full.http.get("/metrics").text
    assert (whole.status_code, whole.headers[REASON]) == (200, "overloaded")
    assert whole.json()["text"] == long["documents"][0]
    assert 'tamis_fallback_total{reason="overloaded"} 1.0' in page


def test_a_context_that_fits_has_no_such_header(service):
    """It came back whole because all of it may stay: nothing went wrong."""
    answer = service.post("/v1/compress", **{**BODY, "max_tokens": 1000}, on_error="passthrough")
    assert answer.json()["status"] == "passthrough"
    assert REASON not in answer.headers
    assert REASON not in service.post("/v1/compress", **BODY).headers
