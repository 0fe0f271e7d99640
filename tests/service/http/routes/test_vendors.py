"""Routes and shapes of single clients, each as its parser reads them."""

from __future__ import annotations

import math

import pytest

from tests.service.http.app_kit import DOCUMENTS, QUESTION, served

PASSAGES = [{"text": text} for text in DOCUMENTS]
JINA = {"model": "m", "query": QUESTION, "documents": DOCUMENTS}
NIM = {"model": "m", "query": {"text": QUESTION}, "passages": PASSAGES, "truncate": "END"}


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def scores(service):
    """The score of each document on `/v1/rerank`."""
    found = service.post("/v1/rerank", **JINA).json()
    return [row["relevance_score"] for row in sorted(found["results"], key=lambda r: r["index"])]


def answer_of(service, path, **body):
    answer = service.post(path, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    "path",
    ["/v1/ranking", "/v1/retrieval/nvidia/rerank-1b/reranking", "/v1/retrieval/m/reranking"],
)
def test_nim_has_logits_of_the_same_scores(service, scores, path):
    found = answer_of(service, path, **NIM)
    assert set(found) == {"rankings", "usage"}
    assert [set(row) for row in found["rankings"]] == [{"index", "logit"}] * 2
    logits = {row["index"]: row["logit"] for row in found["rankings"]}
    assert [1 / (1 + math.exp(-logits[i])) for i in range(2)] == pytest.approx(scores)
    assert len(answer_of(service, path, **NIM, top_k=1)["rankings"]) == 1


def test_nim_s_path_names_the_method_where_the_body_does_not(service):
    body = {"query": NIM["query"], "passages": PASSAGES}
    by_path = answer_of(service, "/v1/retrieval/lexical/reranking", **body)
    assert by_path == answer_of(service, "/v1/ranking", **body, model="lexical")
    assert by_path != answer_of(service, "/v1/ranking", **body)


def test_a_passage_without_text_is_refused_with_its_place(service):
    answer = service.post("/v1/ranking", **{**NIM, "passages": [*PASSAGES, {"image": "x"}]})
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == "passages.2"


@pytest.mark.parametrize("path", ["/v1/inference/Qwen/Qwen3-Reranker-4B", "/inference/m"])
def test_deepinfra_has_one_score_a_document_in_order(service, scores, path):
    body = {"queries": [QUESTION] * 2, "documents": DOCUMENTS}
    found = answer_of(service, path, **body)
    assert set(found) == {"scores", "input_tokens", "request_id", "inference_status"}
    assert found["scores"] == pytest.approx(scores)
    assert found["input_tokens"] > 0
    assert found["inference_status"]["status"] == "succeeded"
    two = {"queries": [QUESTION, "Who knows why?"], "documents": PASSAGES}
    assert answer_of(service, path, **two)["scores"][0] == pytest.approx(scores[0])


def test_deepinfra_refuses_queries_that_are_no_pairs(service):
    answer = service.post("/v1/inference/m", queries=["a"] * 3, documents=DOCUMENTS)
    assert answer.status_code == 422
    assert "3 queries and 2 documents" in answer.json()["error"]["message"]


def test_fireworks_has_texts_in_data(service, scores):
    found = answer_of(service, "/inference/v1/rerank", **JINA, return_documents=True)
    assert set(found) == {"object", "model", "data", "usage"}
    assert [row["document"] for row in found["data"]] == DOCUMENTS
    assert [row["relevance_score"] for row in found["data"]] == scores
    assert set(found["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert answer_of(service, "/inference/v1/rerank", **JINA)["data"][0]["document"] is None


@pytest.mark.parametrize("path", ["/reranks", "/v1/reranks", "/compatible-api/v1/reranks"])
def test_dashscope_has_documents_as_objects_on_request(service, path):
    found = answer_of(service, path, **JINA, return_documents=True, top_n=1)
    assert [row["document"]["text"] for row in found["results"]] == DOCUMENTS[:1]
    assert found["usage"]["total_tokens"] > 0
    quiet = answer_of(service, path, **JINA)
    assert set(quiet["results"][0]) == {"index", "relevance_score"}


@pytest.mark.parametrize("path", ["/infinity/rerank", "/infinity/v1/rerank"])
def test_infinity_has_documents_as_strings_at_its_path(service, path):
    found = answer_of(service, path, **JINA, return_documents=True)
    assert [row["document"] for row in found["results"]] == DOCUMENTS
    assert answer_of(service, path, **JINA)["results"][0]["document"] is None


def test_llama_cpp_s_other_path_is_the_same(service):
    one, other = (answer_of(service, p, **JINA)["results"] for p in ("/v1/reranking", "/v1/rerank"))
    assert one == other


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_sglang_has_a_bare_list(service, path):
    found = answer_of(service, path, query=QUESTION, documents=DOCUMENTS, instruct="Rank.", top_n=1)
    (row,) = found
    assert set(row) == {"score", "document", "index", "meta_info"}
    assert row["document"] == DOCUMENTS[0]
    quiet = {"instruct": "Rank.", "return_documents": False}
    assert answer_of(service, path, **JINA, **quiet)[0]["document"] is None


def test_librechat_s_candidates_keep_their_ids(service, scores):
    candidates = [
        {"id": "b", "text": DOCUMENTS[1], "base_score": 0.9},
        {"id": "a", "text": DOCUMENTS[0], "base_score": 0.1},
    ]
    found = answer_of(
        service, "/v1/rerank", profile="default", query=QUESTION, candidates=candidates, top_n=2
    )
    assert set(found) == {"profile", "model", "results"}
    assert found["profile"] == "default"
    assert [(row["id"], row["index"]) for row in found["results"]] == [("a", 1), ("b", 0)]
    assert [row["score"] for row in found["results"]] == pytest.approx(scores)


def test_tei_predicts_a_pair_or_many(service, scores):
    one = answer_of(service, "/predict", inputs=[QUESTION, DOCUMENTS[0]])
    assert one == [{"score": pytest.approx(scores[0]), "label": "LABEL_0"}]
    pairs = [[QUESTION, text] for text in DOCUMENTS]
    many = answer_of(service, "/predict", inputs=pairs, truncate=True)
    assert [row["score"] for (row,) in many] == pytest.approx(scores)
    (raw,) = answer_of(service, "/predict", inputs=pairs[0], raw_scores=True)
    assert 1 / (1 + math.exp(-raw["score"])) == pytest.approx(scores[0])


@pytest.mark.parametrize("inputs", ["text", ["text"], [["a", "b", "c"]], [], [[QUESTION, 1]]])
def test_tei_s_prediction_of_no_pair_is_refused_in_its_dialect(service, inputs):
    answer = service.post("/predict", inputs=inputs)
    assert (answer.status_code, set(answer.json())) == (422, {"error", "error_type"})


def test_tei_ranks_as_many_as_huggingface_s_clients_want(service):
    body = {"query": QUESTION, "texts": PASSAGES, "raw_scores": False, "top_n": 1}
    found = answer_of(service, "/rerank", **body, truncation_direction="Right", return_text=True)
    assert [(row["index"], row["text"]) for row in found] == [(0, DOCUMENTS[0])]


def test_models_are_listed_at_both_paths(service):
    assert service.http.get("/models").json() == service.http.get("/v1/models").json()


@pytest.mark.parametrize("uid", ["default", "lexical", "question_rows", "scripted"])
def test_xinference_finds_each_model_by_its_uid(service, uid):
    found = service.http.get(f"/v1/models/{uid}").json()
    assert (found["model_type"], found["model_uid"], found["id"]) == ("rerank", uid, uid)
    assert found["object"] == "model"
    body = {**JINA, "model": uid, "top_n": None, "max_chunks_per_doc": None, "kwargs": "{}"}
    ranked = answer_of(service, "/v1/rerank", **body, return_documents=None, return_len=None)
    assert ranked["results"][0]["document"]["text"] == DOCUMENTS[0]
    assert ranked["meta"]["warnings"] == []


def test_xinference_learns_without_a_key_whether_it_needs_one(service):
    assert service.http.get("/v1/cluster/auth").json() == {"auth": False}
    with served(api_keys=("ada:0123456789abcdef",)) as guarded:
        assert guarded.http.get("/v1/cluster/auth").json() == {"auth": True}
        assert guarded.http.get("/v1/models/default").status_code == 401


def test_a_model_that_is_not_there_is_not_found(service):
    answer = service.http.get("/v1/models/gpt-4o")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


def test_cohere_v2_takes_what_version_1_took(service):
    body = {**JINA, "documents": PASSAGES, "return_documents": True}
    found = answer_of(service, "/v2/rerank", **body)
    assert [row["document"] for row in found["results"]] == PASSAGES
    titled = [{"title": text, "text": "None."} for text in DOCUMENTS]
    by_title = answer_of(
        service, "/v2/rerank", **{**JINA, "documents": titled, "rank_fields": ["title"]}
    )
    plain = answer_of(service, "/v2/rerank", **JINA)
    assert by_title["results"] == plain["results"]


def test_voyage_takes_objects(service):
    body = {**JINA, "documents": PASSAGES, "top_k": 1, "return_documents": True}
    assert answer_of(service, "/v1/rerank", **body)["data"][0]["document"] == DOCUMENTS[0]


@pytest.mark.parametrize("flag", ["true", "True", True])
@pytest.mark.parametrize("number", ["1", 1.0, 1])
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/inference/v1/rerank", "/reranks"])
def test_numbers_and_flags_may_be_sent_as_text(service, path, number, flag):
    found = answer_of(service, path, **JINA, top_n=number, return_documents=flag)
    (row,) = found.get("results") or found["data"]
    assert row["document"] in (DOCUMENTS[0], PASSAGES[0], {**PASSAGES[0], "multi_modal": None})


@pytest.mark.parametrize(
    "fields",
    [
        {"top_n": "two"}, {"top_n": 1.5}, {"top_n": True}, {"top_n": "-1"}, {"top_n": "1 "},
        {"top_n": 1e300}, {"return_documents": "yes"}, {"return_documents": 1},
    ],
    ids=str,
)  # fmt: skip
def test_other_texts_are_no_numbers_and_no_flags(service, fields):
    answer = service.post("/v1/rerank", **JINA, **fields)
    assert answer.status_code == 422
    assert answer.json()["error"]["param"] == next(iter(fields))


def test_our_own_dialect_takes_numbers_and_flags_only(service):
    for field in ({"max_tokens": "40"}, {"max_tokens": 40.0}, {"shadow": "true"}):
        body = {"query": QUESTION, "documents": DOCUMENTS, **field}
        assert service.post("/v1/compress", **body).status_code == 422


@pytest.mark.parametrize(
    ("documents", "param"),
    [
        ([{"text": "a"}, {"title": 1}, 5], "documents.1"),
        ([{"title": "a"}, 5], "documents.0"),
        ([{"text": None}, {"text": 3}], "documents.0"),
        (["a", {"text": ["b"]}, {}], "documents.1.text"),
        (["a", None, {}], "documents.1"),
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
def test_the_first_bad_document_is_named(service, path, documents, param):
    answer = service.post(path, query=QUESTION, documents=documents)
    assert answer.status_code == 422
    found = answer.json()
    message = found["message"] if path == "/v2/rerank" else found["error"]["message"]
    assert message.startswith(f"{param}: ")
