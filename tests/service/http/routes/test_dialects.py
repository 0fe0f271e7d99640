"""What tells one client of the rerank routes from another, and what each finds in its answer."""

from __future__ import annotations

import re
import time
import uuid

import pytest

from tests.scripted import ScriptedReader
from tests.service.http.app_kit import DOCUMENTS, QUESTION, pointing, served

KEY = "0123456789abcdef"
TEI = {"query": QUESTION, "texts": DOCUMENTS}
JINA = {"query": QUESTION, "documents": DOCUMENTS}
TIMES = ("compute-time", "total-time", "tokenization-time", "queue-time", "inference-time")


@pytest.fixture(scope="module")
def service():
    with served(max_body_bytes=20_000) as running:
        yield running


def asked(service, path, headers=None, **fields):
    answer = service.http.post(path, json={**JINA, **fields}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tei_s_answer_says_in_its_headers_what_it_took(service):
    answer = service.post("/rerank", **TEI)
    headers = answer.headers
    assert headers["x-compute-type"] in ("cpu", "cuda", "mps")
    ms = {name: int(headers[f"x-{name}"]) for name in TIMES}
    assert ms["total-time"] == ms["compute-time"] < 60_000
    assert ms["inference-time"] + ms["tokenization-time"] <= ms["total-time"]
    assert int(headers["x-compute-characters"]) == sum(map(len, DOCUMENTS)) + 2 * len(QUESTION)
    tokens = service.post("/v2/rerank", **JINA).json()["meta"]["tokens"]["input_tokens"]
    assert int(headers["x-compute-tokens"]) == tokens > 0
    assert "x-total-time" not in service.post("/rerank", **JINA).headers


class Slow(ScriptedReader):
    """A reader that takes its time, and counts its batches."""

    batches = 0

    def read(self, prompts, want):
        Slow.batches += 1  # of the class: the service reads with a copy
        time.sleep(0.05)
        yield from super().read(prompts, want)


def test_tei_s_times_are_whole_milliseconds():
    """Of two batches, so that one at least is done with when the answer is written."""
    Slow.batches = 0
    with served(Slow(pointing().weigh), warmup=False, batch_tokens=100) as slow:
        headers = slow.post("/rerank", **TEI).headers
    assert Slow.batches == 2
    assert 50 <= int(headers["x-inference-time"]) <= int(headers["x-total-time"]) < 10_000


def test_no_texts_are_empty_to_tei_and_nothing_to_the_others(service):
    answer = service.post("/rerank", query=QUESTION, texts=[])
    assert (answer.status_code, answer.json()["error_type"]) == (400, "empty")
    assert asked(service, "/rerank", documents=[])["results"] == []


def test_info_has_every_field_of_tei_s(service):
    found = service.http.get("/info").json()
    assert set(found) >= {
        "model_id", "model_sha", "model_dtype", "served_model_name", "model_type",
        "max_concurrent_requests", "max_input_length", "max_batch_tokens", "max_batch_requests",
        "max_client_batch_size", "auto_truncate", "tokenization_workers", "version", "sha",
        "docker_label",
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/rerank", "/reranking"])
@pytest.mark.parametrize(
    ("body", "shape"),
    [
        (b"{", {"error", "error_type"}),
        (b"", {"error", "error_type"}),
        (b'{"query": " ", "texts": ["a"]}', {"error", "error_type"}),
        (b'{"query": " ", "documents": ["a"]}', {"error", "detail"}),
        (b'{"query": "' + b"a" * 9000 + b'", "documents": ["a"]}', {"error", "detail"}),
        (b" " * 20_001, {"error", "error_type"}),
    ],
    ids=["no JSON", "nothing", "texts", "documents", "a long question", "too large"],
)
def test_a_refusal_has_tei_s_dialect_until_the_body_decides_otherwise(service, path, body, shape):
    answer = service.raw(path, body)
    assert answer.status_code in (400, 413, 422)
    assert set(answer.json()) == shape


def test_a_refusal_before_the_body_is_read_has_the_dialect_of_its_path_and_is_metered_there():
    paths = {
        "/rerank": {"error", "error_type"},
        "/v2/rerank": {"message"},
        "/v1/rerank": {"error", "detail"},
        "/v1/compress": {"error", "detail"},
    }
    with served(api_keys=(f"ada:{KEY}",), rate_limit="1/hour") as guarded:
        right = {"authorization": f"Bearer {KEY}"}
        guarded.http.get("/info", headers=right)
        for path, shape in paths.items():
            for status, headers in ((401, {}), (429, right)):
                answer = guarded.http.post(path, json=TEI, headers=headers)
                assert (answer.status_code, set(answer.json())) == (status, shape)
        guarded.http.post("/v1/nothing/here", json={})
        page = guarded.http.get("/metrics").text
    for path in paths:
        for status in (401, 429):
            assert f'tamis_requests_total{{route="{path}",status="{status}"}} 1.0' in page
    assert 'tamis_requests_total{route="unknown",status="401"} 1.0' in page
    assert "nothing/here" not in page


@pytest.mark.parametrize(("status", "more"), [(413, b" " * 30_000), (415, b"")])
def test_a_body_that_is_not_taken_is_metered_where_it_was_sent(service, status, more):
    kind = "text/plain" if status == 415 else "application/json"
    assert service.raw("/v1/compress", b"{}" + more, content_type=kind).status_code == status
    page = service.http.get("/metrics").text
    assert f'tamis_requests_total{{route="/v1/compress",status="{status}"}}' in page


@pytest.mark.parametrize(
    "model", ["rerank-2.5", "rerank-2.5-lite", "rerank-2", "rerank-lite-1", "rerank-1"]
)
@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank"])
def test_a_model_of_voyage_s_is_answered_as_voyage_does(service, path, model):
    found = asked(service, path, model=model)
    assert found["object"] == "list"
    assert [set(row) for row in found["data"]] == [{"index", "relevance_score"}] * 2
    shown = asked(service, path, model=model, return_documents=True)
    assert [row["document"] for row in shown["data"]] == DOCUMENTS


def test_fields_that_are_not_voyage_s_go_before_the_model(service):
    found = asked(service, "/v1/rerank", model="rerank-2.5", top_n=1)
    assert len(found["results"]) == 1


COHERE = [
    ({"model": "rerank-v3.5"}, {}),
    ({"model": "rerank-english-v3.0"}, {}),
    ({"model": "rerank-multilingual-v3.0"}, {}),
    ({"model": "m"}, {"user-agent": "cohere/5.20.0"}),
    ({"model": "m"}, {"x-fern-sdk-name": "cohere-ai"}),
    ({"model": "m"}, {"x-client-name": "mine"}),
    ({"max_chunks_per_doc": 3}, {}),
]


@pytest.mark.parametrize(("fields", "headers"), COHERE, ids=str)
def test_cohere_v1_has_documents_only_if_it_asks(service, fields, headers):
    quiet = asked(service, "/v1/rerank", headers, **fields)
    assert [set(row) for row in quiet["results"]] == [{"index", "relevance_score"}] * 2
    shown = asked(service, "/v1/rerank", headers, return_documents=True, **fields)
    assert shown["results"][0]["document"]["text"] == DOCUMENTS[0]


@pytest.mark.parametrize(
    "fields", [{}, {"model": "BAAI/bge-reranker-v2-m3"}, {"top_n": 2}], ids=str
)
def test_vllm_has_documents_always_with_the_field_it_reads(service, fields):
    found = asked(service, "/v1/rerank", **fields)
    assert found["results"][0]["document"] == {"text": DOCUMENTS[0], "multi_modal": None}


def test_infinity_has_null_where_it_asked_for_no_documents(service):
    found = asked(service, "/rerank", raw_scores=False)
    assert [row["document"] for row in found["results"]] == [None, None]
    shown = asked(service, "/rerank", raw_scores=False, return_documents=True)
    assert shown["results"][0]["document"] == DOCUMENTS[0]


def test_cohere_s_ids_are_uuids(service):
    for path in ("/v2/rerank", "/v1/rerank"):
        given = asked(service, path, model="rerank-v3.5")["id"]
        assert str(uuid.UUID(given)) == given
    assert re.fullmatch(r"score-[0-9a-f-]{36}", asked(service, "/score", queries=QUESTION)["id"])


@pytest.mark.parametrize(
    ("asked_for", "named"),
    [
        ("lexical", "lexical"),
        ("question_rows", "question_rows"),
        ("gpt-4o", "gpt-4o"),
        (None, None),
    ],
)
def test_the_answer_names_the_model_that_was_asked_for(service, asked_for, named):
    """Else the proxy that read: clients compare the name with their own."""
    named = named or service.http.get("/info").json()["model_id"]
    for path in ("/v1/rerank", "/rerank", "/score"):
        assert asked(service, path, model=asked_for, queries=QUESTION)["model"] == named
    assert asked(service, "/v1/rerank", model=asked_for, top_k=1)["model"] == named


def test_a_default_that_reads_with_no_proxy_goes_by_its_own_name():
    with served(method="lexical") as plain:
        assert asked(plain, "/v1/rerank")["model"] == "lexical"


def test_llama_cpp_s_path_is_the_same(service):
    one, other = (asked(service, path)["results"] for path in ("/reranking", "/rerank"))
    assert one == other
    assert isinstance(service.post("/reranking", **TEI).json(), list)
