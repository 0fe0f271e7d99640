"""The published methods behind the service and the library: as through the engine, so without."""

from __future__ import annotations

import pytest

import tamis
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tests.probes import tiny
from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served

QUESTION = "When was the harbour closed?"
DOCUMENTS = [f"In the year {1900 + i} ships came to the harbour of Malo." for i in range(40)]
TOGETHER = {"query": QUESTION, "documents": DOCUMENTS, "model": "icr", "raw_scores": True}


@pytest.mark.parametrize("behind", ["proxy", "cache"])
@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_prompts_are_as_long_and_layers_the_same_as_in_the_library(kind, behind):
    """More documents than the context holds; gemma3 has layers that see a few tokens back."""
    proxy = tiny.proxy(kind)
    here = tamis.rerank(QUESTION, DOCUMENTS, method="icr", proxy=proxy)
    assert here.windows > 1
    reader = CachedReader(proxy, PassageCache(1 << 28)) if behind == "cache" else proxy
    with served(reader, max_request_tokens=1 << 20) as service:
        answer = service.post("/rerank", **TOGETHER)
    assert answer.status_code == 200, answer.text
    found = {row["index"]: row["relevance_score"] for row in answer.json()["results"]}
    assert found == pytest.approx({r.index: r.own for r in here.results}, abs=1e-4)


def test_an_order_that_reads_every_layer_says_so_where_not_all_are_loaded(tmp_path):
    shallow = Proxy.from_folder(tiny.save("llama", tmp_path), layers=2)
    with served(shallow, methods=("lexical",), method="lexical") as service:
        answer = service.post(
            "/v1/compress", question=QUESTION, documents=DOCUMENTS, max_tokens=200,
            order="attention_sorting",
        )  # fmt: skip
    assert answer.status_code == 422, answer.text
    assert "2 of 4 are loaded" in answer.text


def test_spans_of_a_method_that_scores_no_sentences_are_refused():
    with served(tiny.proxy("llama"), methods=("lexical", "icr"), method="lexical") as service:
        answer = service.post(
            "/v2/rerank", query=QUESTION, documents=DOCUMENTS[:3], model="icr",
            relevant_spans={"mode": "enabled"},
        )  # fmt: skip
    assert answer.status_code == 422, answer.text
    assert "no probability for each sentence" in answer.json()["message"]


def test_selections_refuse_an_order_that_a_method_makes():
    with served(tiny.proxy("llama"), methods=("lexical",), method="lexical") as service:
        answer = service.post(
            "/v1/explain", question=QUESTION, documents=DOCUMENTS[:3], max_tokens=40, selections=4,
            order="attnrank",
        )  # fmt: skip
    assert answer.status_code == 422, answer.text
    assert "selections" in answer.json()["error"]["message"]


def test_a_method_of_reranking_compresses_nothing():
    for method in ("icr", "qrhead"):
        with pytest.raises(BadInput, match="is a method of reranking"):
            tamis.compress(QUESTION, DOCUMENTS, max_tokens=20, method=method)


def test_a_loaded_reader_is_taken_as_it_is():
    reader = ScriptedReader.from_needles("1907")
    found = tamis.rerank(QUESTION, DOCUMENTS[:3], method="icr", proxy=reader)
    assert found.windows == reader.prompts_read // 2
    assert len(found.results) == 3


@pytest.mark.model
@pytest.mark.parametrize("method", ["icr", "qrhead", "corehead"])
def test_the_default_proxy_finds_the_document_that_answers(proxy_folder, method):
    texts = ["Ships came to Malo.", "The harbour was closed in 1907.", "Bread was cheap."]
    found = tamis.rerank(QUESTION, [*texts, "", texts[0]], method=method)
    assert found.results[0].index == 1
    assert len(found.results) == 5
    own = {one.index: one.own for one in found.results}
    assert own[0] == own[4]
