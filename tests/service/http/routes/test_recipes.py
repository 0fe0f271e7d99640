"""docs/how-to: the requests that other programs send, and the fields that they read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from string import Template
from typing import Any

import pytest

from tests.fences import blocks
from tests.integrations.client_table import PAGE, table, table_in
from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, Running, served
from tests.service.http.probability_kit import served_by_shares

HOW_TO = PAGE.parents[1] / "how-to"
KEY = "0123456789abcdef"
BEARER = {"Authorization": f"Bearer {KEY}"}
TEXTS = ["Nothing is said here. Nobody knows why.", DOCUMENTS[0], "Caves are cool."]
RANK = {"model": "tamis", "query": QUESTION, "documents": TEXTS, "top_n": 3}
TEI = {"query": QUESTION, "texts": TEXTS, "raw_scores": False, "truncate": True}
CANDIDATES = [{"id": f"c{i}", "text": text, "base_score": 0.5} for i, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def service() -> Iterator[Running]:
    with served(api_keys=(f"ada:{KEY}",)) as running:
        yield running


def asked(service: Running, path: str, body: Any, **headers: str) -> Any:
    answer = service.http.post(path, json=body, headers=BEARER | headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


REQUESTS = {
    "Open WebUI": ("/v1/rerank", RANK),
    "Dify, OpenAI-API-compatible": ("/v1/rerank", RANK),
    "Dify, Cohere": ("/v1/rerank", RANK | {"return_documents": True, "model": "rerank-v3.5"}),
    "RAGFlow, VLLM": ("/v1/rerank", RANK),
    "RAGFlow, Xinference": (
        "/v1/rerank",
        RANK | {"return_documents": "true", "return_len": "true"},
    ),
    "LibreChat, Jina": ("/v1/rerank", RANK | {"return_documents": True, "top_n": 3}),
    "n8n": ("/v1/rerank", RANK),
    "mem0, Cohere": ("/v1/rerank", RANK | {"return_documents": False, "max_chunks_per_doc": 10}),
}


@pytest.mark.parametrize("program", REQUESTS)
def test_every_row_comes_back_by_its_index_with_a_score_from_0_to_1(service: Running, program: str):
    found = asked(service, *REQUESTS[program])["results"]
    assert sorted(row["index"] for row in found) == [0, 1, 2]
    scores = [row["relevance_score"] for row in found]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 1
    assert found[0]["index"] == 1
    if REQUESTS[program][1].get("return_documents") is True:
        assert found[0]["document"]["text"] == TEXTS[1]


@pytest.mark.parametrize(
    "body",
    [TEI, {"query": QUESTION, "texts": TEXTS, "return_text": False}],
    ids=["Dify", "Hindsight"],
)
def test_tei_s_clients_read_a_bare_list(service: Running, body: dict[str, Any]):
    kinds = service.http.get("/info", headers=BEARER).json()["model_type"]
    assert next(iter(kinds)) == "reranker"
    found = asked(service, "/rerank", body)
    assert [set(row) >= {"index", "score"} for row in found] == [True] * 3
    assert found[0]["index"] == 1


def test_dify_looks_xinference_s_model_up_first(service: Running):
    found = service.http.get("/v1/models/default", headers=BEARER).json()
    assert found["model_type"] == "rerank"
    rows = asked(service, "/v1/rerank", RANK | {"model": "default", "return_documents": True})
    assert rows["results"][0]["document"]["text"] == TEXTS[1]


def test_librechat_s_rag_api_reads_ids(service: Running):
    body = {"profile": "p", "query": QUESTION, "candidates": CANDIDATES, "top_n": 2}
    found = asked(service, "/v1/rerank", body)
    assert found["results"][0]["id"] == "c1"
    assert (found["profile"], len(found["results"])) == ("p", 2)


def test_n8n_compresses_by_a_plain_request(service: Running):
    page = (HOW_TO / "recipes.md").read_text("utf-8")
    (shown,) = [b for b in blocks(page, "text") if b.startswith('{"question"')]
    body = shown.replace("{{ $json.question }}", QUESTION).replace(
        "{{ JSON.stringify($json.documents) }}", json.dumps(TEXTS)
    )
    assert NEEDLE in asked(service, "/v1/compress", json.loads(body))["text"]


class Dotted(Template):
    """OpenSearch's placeholders."""

    idpattern = r"[a-z_.]+"


def connector_request(number: int, **parameters: str | int) -> tuple[str, dict[str, Any]]:
    """The path and the body that one of the page's connectors of OpenSearch sends."""
    shown = blocks((HOW_TO / "opensearch.md").read_text("utf-8"), "text")
    connector = json.loads(shown[number].partition("\n")[2])
    (action,) = connector["actions"]
    given = {**connector.get("parameters", {}), **parameters}
    body = Dotted(action["request_body"]).substitute(
        {f"parameters.{name}": value for name, value in given.items()}
    )
    return action["url"].removeprefix("http://tamis:8080"), json.loads(body)


def test_opensearch_s_connector_sends_what_the_page_says(service: Running):
    """Its function before the request gives texts and their number, as parameters."""
    path, body = connector_request(0, documents=json.dumps(TEXTS), query=QUESTION, top_n=3)
    found = asked(service, path, body)["results"]
    assert found[0]["index"] == 1
    assert {row["index"] for row in found} == {0, 1, 2}


def test_opensearch_s_highlighter_gets_the_spans_of_sentences():
    context = f"Nobody knows why. {NEEDLE} Caves are cool."
    path, body = connector_request(1, question=QUESTION, context=context)
    with served_by_shares() as service:
        (found,) = asked(service, path, body)["highlights"]
    assert context[found["start"] : found["end"]].strip() == NEEDLE.strip()


def test_the_table_of_clients_is_made_from_the_environments():
    """`python -m tests.integrations.client_table` writes it."""
    assert table_in(PAGE.read_text("utf-8")) == table()
