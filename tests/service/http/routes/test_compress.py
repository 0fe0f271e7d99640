"""`/v1/compress`, `/v1/explain` and `/v1/compress/batch`, over a real socket."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import tamis
from tamis.service.api.compress import counter_of
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


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def compressed(service: Running, path: str = "/v1/compress", **fields) -> dict:
    answer = service.post(path, **{"question": QUESTION, "documents": DOCUMENTS, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_answer_is_what_the_library_gives(service):
    found = compressed(service, max_tokens=40)
    here = tamis.compress(QUESTION, DOCUMENTS, max_tokens=40, proxy=pointing())
    assert found["text"] == here.text
    assert found["usage"]["input_tokens"] == here.tokens_in
    assert found["usage"]["output_tokens"] == here.tokens_out
    assert NEEDLE in found["text"]
    assert [d["kept"] for d in found["results"]] == [True, False]


def test_every_field_of_the_answer_is_there(service):
    found = compressed(service, max_tokens=40)
    assert set(found) >= {
        "id", "object", "created", "model", "model_revision", "text", "results", "answerability",
        "counts", "usage", "timings", "status", "warnings", "verdict", "reason",
    }  # fmt: skip
    assert found["object"] == "compression"
    assert found["id"].startswith("cmp_")
    assert set(found["usage"]) == {
        "input_tokens", "output_tokens", "saved_tokens", "ratio", "cached_tokens", "tokenizer",
        "estimated",
    }  # fmt: skip
    assert set(found["results"][0]) >= {
        "index", "id", "evidence_score", "kept", "text", "relevant_spans", "tokens_before",
        "tokens_after",
    }  # fmt: skip
    assert set(found["timings"]) == {
        "queue_ms", "tokenize_ms", "score_ms", "select_ms", "total_ms",
    }  # fmt: skip


def test_a_context_that_fits_comes_back_whole_and_no_model_is_asked(service):
    before = service.app.state.service_state.engine.queue_load()
    found = compressed(service, max_tokens=1000)
    assert found["status"] == "passthrough"
    assert found["text"] == "\n\n".join(DOCUMENTS)
    assert found["counts"]["windows"] == 0
    assert before.tokens == 0


@pytest.mark.parametrize(
    "budget",
    [{"max_tokens": 35}, {"ratio": 0.4}, {"adaptive": {"min_ratio": 2, "max_ratio": 4}}, {}],
)
def test_each_budget_is_met(service, budget):
    if "adaptive" in budget:  # it needs probabilities, which words alone do not give
        answer = service.post("/v1/compress", question=QUESTION, documents=DOCUMENTS, **budget)
        assert answer.status_code == 422
        assert "probabilities" in answer.json()["error"]["message"]
        return
    found = compressed(service, **budget)
    least = {"max_tokens": 35, "ratio": 0.4 * found["usage"]["input_tokens"]}
    assert found["usage"]["output_tokens"] <= min([500, *(least[name] for name in budget)])


def test_units_are_returned_as_requested(service):
    kept = compressed(service, max_tokens=40, **{"return": {"units": "kept", "spans": False}})
    assert kept["results"][0]["relevant_spans"] is None
    assert [u["kept"] for u in kept["results"][0]["units"]] == [True]
    every = compressed(service, max_tokens=40, **{"return": {"units": "all"}})
    assert len(every["results"][0]["units"]) == 3
    none = compressed(service, max_tokens=40, **{"return": {"documents": False, "text": False}})
    assert none["results"] is None
    assert none["text"] is None


def test_explain_scores_every_sentence_even_where_all_fits(service):
    found = compressed(service, "/v1/explain", max_tokens=1000)
    units = [unit for document in found["results"] for unit in document["units"]]
    assert len(units) == 5
    assert all(unit["kept"] and unit["score"] is not None for unit in units)
    best = max(units, key=lambda unit: unit["score"])
    assert DOCUMENTS[0][best["start"] : best["end"]] == NEEDLE


def test_what_explain_says_is_enough_to_choose_again(service):
    """A page that takes units by score while their tokens fit gets what the service would."""
    found = compressed(service, "/v1/explain", max_tokens=1000)
    units = [u for document in found["results"] for u in document["units"]]
    for budget in (32, 64):
        room, kept = budget, set()
        for unit in sorted(units, key=lambda u: -u["score"]):
            if unit["tokens"] <= room:
                room -= unit["tokens"]
                kept.add(unit["index"])
        asked = compressed(service, "/v1/explain", max_tokens=budget)
        theirs = {u["index"] for d in asked["results"] for u in d["units"] if u["kept"]}
        # the joined text has blanks between units that single units have not
        assert len(theirs ^ kept) <= 1
        assert max(units, key=lambda u: u["score"])["index"] in theirs & kept


def test_many_questions_on_the_same_documents_have_an_answer_each_in_order(service):
    answer = service.post(
        "/v1/compress", questions=["What colour?", QUESTION], documents=DOCUMENTS, max_tokens=40
    )
    data = answer.json()["data"]
    single = [
        compressed(service, question=q, max_tokens=40)["text"] for q in ("What colour?", QUESTION)
    ]
    assert [each["text"] for each in data] == single


def test_an_input_of_a_batch_that_fails_harms_no_other(service):
    inputs = [
        {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40},
        {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 1},
        {"question": QUESTION, "documents": DOCUMENTS, "model": "gpt-9"},
        {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40},
    ]
    data = service.post("/v1/compress/batch", inputs=inputs).json()["data"]
    assert [d["index"] for d in data] == [0, 1, 2, 3]
    assert [d["error"] and d["error"]["code"] for d in data] == [
        None, "budget_too_small", "model_not_found", None,
    ]  # fmt: skip
    assert data[0]["compression"]["text"] == data[3]["compression"]["text"]


def test_an_input_of_a_batch_that_is_no_request_harms_no_other(service):
    good = {"question": QUESTION, "documents": DOCUMENTS, "max_tokens": 40}
    inputs = [good, {"question": QUESTION}, {**good, "max_tokens": 0}, 7, {**good, "keep": 1}]
    data = service.post("/v1/compress/batch", inputs=inputs).json()["data"]
    assert [d["error"] and (d["error"]["code"], d["error"]["param"]) for d in data] == [
        None,
        ("bad_input", "documents"),
        ("bad_input", "max_tokens"),
        ("bad_input", None),
        ("bad_input", None),
    ]
    assert data[1]["error"]["message"] == "documents: Field required"
    assert "'keep'" in data[4]["error"]["message"]
    assert data[0]["compression"]["text"] == compressed(service, max_tokens=40)["text"]


def test_titles_metadata_and_promises_are_kept(service):
    documents = [
        {"text": "One. Two. Three.", "id": "a", "title": "T", "keep": [[5, 9]]},
        {"text": "Call 555. Or not.", "id": "b", "metadata": {"deep": [1, {"x": None}]}},
    ]
    found = compressed(
        service, documents=documents, max_tokens=14, protect={"numbers": True}, question="x?"
    )
    assert found["text"] == "Two.\n\nCall 555." or "Two." in found["text"]
    assert [d["id"] for d in found["results"]] == ["a", "b"]
    assert found["results"][0]["kept"]


def test_a_pattern_that_explodes_is_refused_in_time_and_nobody_else_waits(service):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(
            service.post,
            "/v1/compress",
            question="x?",
            documents=["a" * 5000 + "b. Two."],
            max_tokens=5,
            protect={"regex": ["(?:a|a)+[cd]", "(a+)+[cd]"]},
        )
        began = time.process_time()
        assert service.http.get("/livez").status_code == 200
        assert time.process_time() - began < 5  # of minutes
    assert slow.result().status_code == 422
    assert "nested repetition" in slow.result().json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"question": " "}, "bad_input", "blank"),
        ({"questions": ["a", "b"]}, "bad_input", "give question, or questions"),
        ({"max_tokens": 5, "ratio": 0.5}, "bad_input", "cannot be met together"),
        ({"max_tokns": 5}, "bad_input", "did you mean 'max_tokens'?"),
        ({"model": "question_row"}, "model_not_found", "did you mean 'question_rows'?"),
        ({"tokenizer": "gpt-9"}, "unknown_tokenizer", "there are: proxy"),
        ({"tokenizer": "/etc/passwd"}, "unknown_tokenizer", "there is no tokenizer"),
        ({"documents": [{"text": "a", "keep": [[0, 99]]}]}, "bad_input", "beyond the text"),
        ({"protect": {"regex": ["("]}}, "bad_input", "no regular expression"),
        ({"max_tokens": True}, "bad_input", "max_tokens"),
        ({"documents": ["a"] * 1001}, "bad_input", "1,000 is the most"),
        ({"question": "x" * 9000}, "bad_input", "8,192 is the most"),
        (
            {"documents": [{"txt": "a"}]},
            "bad_input",
            "documents.0: no field 'txt'; did you mean 'text'?",
        ),
        ({"documents": [["a"]]}, "bad_input", "documents.0: Input should be a string"),
        ({"language": "English, please"}, "bad_input", "language: language is"),
        ({"method": "edges"}, "model_not_found", "edges"),
    ],
)
def test_errors_say_what_is_wrong(service, fields, code, says):
    answer = service.post(
        "/v1/compress", **{"question": QUESTION, "documents": DOCUMENTS, **fields}
    )
    assert answer.status_code in (404, 422)
    error = answer.json()["error"]
    assert error["code"] == code
    assert says in error["message"]


def test_a_deadline_gives_the_best_so_far():
    """Two windows of eight are read; the rest is placed by its words, and the answer says so."""
    gated = Gated(pointing(), batches=2)
    documents = [f"{NEEDLE} The wall is blue.", *[f"Room {i} is painted." * 12 for i in range(7)]]
    with served(gated, batch_tokens=100, warmup=False) as service:
        found = compressed(service, documents=documents, max_tokens=60, timeout_ms=1500)
        gated.open()
    assert found["status"] == "partial"
    assert 0 < found["counts"]["units_scored"] < found["counts"]["units"]
    assert "read in time" in found["warnings"][-1]
    assert found["usage"]["output_tokens"] <= 60
    assert NEEDLE in found["text"]


def test_the_services_own_limit_is_504_and_passthrough_gives_the_documents_back():
    gated = Gated(pointing())
    with served(gated, warmup=False, timeout_s=1.5 * busy_ratio()) as service:
        late = service.post("/v1/compress", question=QUESTION, documents=DOCUMENTS, max_tokens=40)
        promised = dict(service.service_state.engine.queue._promises)
        whole = compressed(service, max_tokens=40, on_error="passthrough")
        gated.open()
    assert late.status_code == 504  # it was alone: to come back would not help it
    assert late.json()["error"]["code"] == "timeout"
    assert "retry-after" not in late.headers
    assert not promised
    assert whole["status"] == "passthrough"
    assert whole["text"] == "\n\n".join(DOCUMENTS)
    assert "nothing was left out" in whole["warnings"][-1]


def test_overload_is_429_at_once_with_the_seconds_to_wait():
    gated = Gated(pointing())
    with served(gated, queue_tokens=400, warmup=False) as service:
        long = " ".join(DOCUMENTS * 10)
        first = threading.Thread(
            target=service.post, args=("/v1/compress",),
            kwargs={"question": QUESTION, "documents": [long], "max_tokens": 40},
        )  # fmt: skip
        first.start()
        wait_until(lambda: gated.calls == 1)
        # while the model reads, or else it would wait for the gate
        refused = service.post("/v1/compress", question=QUESTION, documents=[long], max_tokens=40)
        free = service.post(
            "/v1/compress", question=QUESTION, documents=DOCUMENTS, max_tokens=40, model="lexical"
        )
        gated.open()
        first.join()
    assert refused.status_code == 429
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "overloaded"
    assert free.status_code == 200  # a lexical method does not wait for the model


def test_a_budget_may_be_counted_by_rules_as_in_the_library(service):
    found = compressed(service, max_tokens=40, tokenizer="estimate")
    usage = found["usage"]
    assert (usage["tokenizer"], usage["estimated"]) == ("estimate", True)
    assert usage["output_tokens"] == counter_of("estimate").count(found["text"])
    assert not compressed(service, max_tokens=40)["usage"]["estimated"]
