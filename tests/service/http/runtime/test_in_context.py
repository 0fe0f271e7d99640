"""Methods that read documents together know the model through the engine, too."""

from __future__ import annotations

import pytest

import tamis
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tests.probes import tiny
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
            "/v1/compress", query=QUESTION, documents=DOCUMENTS, max_tokens=200,
            order="attention_sorting",
        )  # fmt: skip
    assert answer.status_code == 422, answer.text
    assert "2 of 4 are loaded" in answer.text
