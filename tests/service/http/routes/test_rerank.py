"""Rerank and score, in each dialect's own shape, over a real socket and the real proxy."""

from __future__ import annotations

import math

import pytest

import tamis
from tamis.probes.hub.zoo import load_proxy
from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, served

pytestmark = pytest.mark.model
BLANK = "Nothing is said here. Nobody knows why."


@pytest.fixture(scope="module")
def service(proxy_folder):
    with served(load_proxy(dtype="float32")) as running:
        yield running


@pytest.fixture(scope="module")
def here(proxy_folder):
    """What the library says."""
    found = tamis.rerank(QUESTION, [BLANK, *DOCUMENTS], proxy=load_proxy(dtype="float32"))
    return {ranked.index: ranked.score for ranked in found.results}


def asked(service, path, **fields):
    answer = service.post(path, query=QUESTION, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_cohere(service, here):
    found = asked(
        service, "/v2/rerank", model="rerank-v4.0", documents=[BLANK, *DOCUMENTS], top_n=2,
        relevant_spans={"mode": "enabled", "threshold": 0.2, "max_spans": 1},
    )  # fmt: skip
    assert set(found) == {"id", "results", "meta"}
    silent = {"query": QUESTION, "documents": DOCUMENTS, "relevant_spans": {"max_spans": 1}}
    refused = service.post("/v2/rerank", model="rerank-v4.0", **silent)
    assert refused.status_code == 422
    assert "give mode, too" in refused.text
    assert set(found["meta"]) == {
        "api_version", "billed_units", "tokens", "cached_tokens", "warnings",
    }  # fmt: skip
    assert found["results"][0]["index"] == 1
    assert len(found["results"]) == 2
    (span,) = found["results"][0]["relevant_spans"]
    assert DOCUMENTS[0][span["start"] : span["end"]] == NEEDLE
    assert 0 <= span["score"] <= 1
    assert found["results"][0]["relevance_score"] == pytest.approx(here[1], abs=1e-5)


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank"])
def test_min_score_leaves_out_documents_in_every_dialect(service, here, path):
    least = sorted(here.values())[-2] + 0.01
    rows = asked(service, path, documents=[BLANK, *DOCUMENTS], min_score=least)
    assert [row["index"] for row in rows["results"]] == [1]
    answer = service.post(path, query=QUESTION, documents=DOCUMENTS, min_score=2)
    assert answer.status_code in (400, 422)
    assert "min_score" in answer.text


def test_cohere_without_spans_has_no_such_field(service):
    found = asked(service, "/v2/rerank", documents=DOCUMENTS)
    assert set(found["results"][0]) == {"index", "relevance_score"}


def test_a_document_comes_back_as_it_was_sent_whatever_it_was_ranked_by(service):
    sent = [{"title": NEEDLE, "text": "Below."}, {"title": BLANK}]
    found = asked(
        service, "/v1/rerank", model="rerank-english-v3.0", documents=sent, rank_fields=["title"],
        return_documents=True,
    )  # fmt: skip
    assert [row["document"]["text"] for row in found["results"]] == ["Below.", BLANK]


def test_jina_and_vllm(service, here):
    found = asked(
        service, "/v1/rerank", model="jina-reranker-v3", documents=[{"text": BLANK}, *DOCUMENTS]
    )
    assert found["results"][0]["document"] == {"text": DOCUMENTS[0], "multi_modal": None}
    assert found["usage"]["total_tokens"] == found["usage"]["prompt_tokens"] > 0
    scores = {r["index"]: r["relevance_score"] for r in found["results"]}
    assert scores == pytest.approx(here, abs=1e-5)
    quiet = asked(service, "/rerank", documents=DOCUMENTS, return_documents=False)
    assert "document" not in quiet["results"][0]


def test_infinity_has_documents_as_strings(service):
    found = asked(service, "/rerank", documents=DOCUMENTS, raw_scores=False, return_documents=True)
    assert found["object"] == "rerank"
    assert found["results"][0]["document"] == DOCUMENTS[0]


def test_cohere_v1_ranks_by_the_fields_named(service):
    found = asked(
        service, "/v1/rerank", documents=[{"title": "x", "body": d} for d in DOCUMENTS],
        rank_fields=["title", "body"], max_chunks_per_doc=10,
    )  # fmt: skip
    assert found["results"][0]["index"] == 0
    assert found["meta"]["api_version"]["version"] == "1"


def test_voyage(service):
    found = asked(
        service, "/v1/rerank", documents=DOCUMENTS, model="rerank-2.5", top_k=1, truncation=True
    )
    assert set(found) == {"object", "data", "model", "usage"}
    assert len(found["data"]) == 1
    assert set(found["data"][0]) == {"index", "relevance_score"}


def test_tei_is_a_bare_list_and_raw_scores_are_logits(service):
    found = asked(service, "/rerank", texts=DOCUMENTS, return_text=True)
    assert found[0]["text"] == DOCUMENTS[0]
    raw = asked(service, "/rerank", texts=DOCUMENTS, raw_scores=True)
    assert 1 / (1 + math.exp(-raw[0]["score"])) == pytest.approx(found[0]["score"], abs=1e-6)
    assert set(raw[0]) == {"index", "score"}


@pytest.mark.parametrize(
    "names",
    [("text_1", "text_2"), ("queries", "documents"), ("queries", "items"), ("data_1", "data_2")],
)
def test_scores_by_all_four_pairs_of_names(service, names):
    left, right = names
    answer = service.post("/score", **{left: QUESTION, right: DOCUMENTS})
    scores = [item["score"] for item in answer.json()["data"]]
    assert scores[0] > scores[1]
    pairwise = service.post("/v1/score", **{left: [QUESTION] * 2, right: DOCUMENTS})
    assert [i["score"] for i in pairwise.json()["data"]] == pytest.approx(scores, abs=1e-5)


def test_invocations_ranks_for_a_query_and_scores_pairs(service):
    def answer(path, **body):
        return service.http.post(path, json={"documents": DOCUMENTS, **body}).json()

    rank, pairs = {"query": QUESTION}, {"queries": QUESTION}
    assert answer("/invocations", **rank)["results"] == answer("/v1/rerank", **rank)["results"]
    assert answer("/invocations", **pairs)["data"] == answer("/score", **pairs)["data"]


@pytest.mark.parametrize("other", [{"queries": "cheese"}, {"items": ["cheese"]}])
def test_half_a_pair_beside_another_is_refused(service, other):
    answer = service.post("/v1/score", text_1=QUESTION, text_2=DOCUMENTS, **other)
    assert answer.status_code == 422
    assert f"{next(iter(other))} would not be" in answer.text


def test_no_pair_moves_the_score_of_another(service):
    few = service.post("/score", text_1=QUESTION, text_2=DOCUMENTS).json()["data"]
    many = service.post("/score", text_1=QUESTION, text_2=[*DOCUMENTS, *DOCUMENTS, BLANK]).json()[
        "data"
    ]
    assert [d["score"] for d in many[:2]] == pytest.approx([d["score"] for d in few], abs=1e-5)


def test_a_text_without_words_has_no_score_and_moves_nobody_s(service):
    pairs = {"queries": [QUESTION, QUESTION], "documents": DOCUMENTS}
    few = [d["score"] for d in service.post("/score", **pairs).json()["data"]]
    with_empty = {"queries": [QUESTION, QUESTION, "Who?"], "documents": [*DOCUMENTS, ""]}
    many = [d["score"] for d in service.post("/score", **with_empty).json()["data"]]
    assert many[:2] == pytest.approx(few, abs=1e-5)
    assert many[2] == 0
    for path in ("/v1/rerank", "/v2/rerank"):
        found = asked(service, path, model="x", documents=["", *DOCUMENTS, " \n"])["results"]
        assert [r["relevance_score"] for r in found if r["index"] in (0, 3)] == [0, 0]
        assert {r["index"] for r in found[-2:]} == {0, 3}
    blank = asked(service, "/rerank", texts=["", DOCUMENTS[0]], raw_scores=True)
    assert all(math.isfinite(r["score"]) for r in blank)
    nothing = asked(service, "/rerank", documents=["", " "])["results"]
    assert [r["relevance_score"] for r in nothing] == [0, 0]


def test_no_pair_moves_another_by_methods_that_compare_documents_either(service):
    def scores(texts):
        body = {"model": "lexical", "text_1": QUESTION, "text_2": texts}
        return [d["score"] for d in service.post("/score", **body).json()["data"]]

    alone = [score for text in DOCUMENTS for score in scores([text])]
    assert scores([*DOCUMENTS, *DOCUMENTS, BLANK])[: len(DOCUMENTS)] == alone


@pytest.mark.parametrize(
    ("path", "body", "shape"),
    [
        ("/v2/rerank", {"query": "q", "documents": 3}, {"message"}),
        ("/v1/rerank", {"query": "q", "documents": 3}, {"error", "detail"}),
        ("/rerank", {"query": "q", "documents": 3}, {"error", "detail"}),
        ("/rerank", {"query": "q", "texts": 3}, {"error", "error_type"}),
        ("/rerank", {"query": " ", "texts": ["a"]}, {"error", "error_type"}),
        ("/score", {"text_1": "a"}, {"error", "detail"}),
        ("/score", {"text_1": ["a", "b", "c"], "text_2": ["a", "b"]}, {"error", "detail"}),
    ],
)
def test_errors_speak_the_dialect(service, path, body, shape):
    answer = service.post(path, **body)
    assert answer.status_code == 422
    assert set(answer.json()) == shape


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank"])
def test_no_documents_and_empty_documents_are_ranked_too(service, path):
    assert asked(service, path, documents=[])["results"] == []
    found = asked(service, path, documents=["", "   ", *DOCUMENTS])
    assert sorted(r["index"] for r in found["results"]) == [0, 1, 2, 3]
    assert found["results"][0]["index"] == 2
