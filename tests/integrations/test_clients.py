"""Official clients, unmodified, against a running service: a real socket and the real engine."""

from __future__ import annotations

import cohere
import litellm
import pytest
import voyageai
import xinference_client
from huggingface_hub import InferenceClient
from huggingface_hub.utils import build_hf_headers, get_session

from tamis.probes.hub.zoo import load_proxy
from tests.service.http.app_kit import DOCUMENTS, NEEDLE, QUESTION, served

pytestmark = pytest.mark.model
KEY = "0123456789abcdef"
TEXTS = ["Nothing is said here. Nobody knows why.", *DOCUMENTS]


@pytest.fixture(scope="module")
def service(proxy_folder):
    with served(load_proxy(dtype="float32"), api_keys=(f"ada:{KEY}",)) as running:
        yield running


def test_cohere_v2_with_relevant_spans(service):
    client = cohere.ClientV2(api_key=KEY, base_url=service.url)
    found = client.rerank(
        model="rerank-v5.0-pro",
        query=QUESTION,
        documents=TEXTS,
        top_n=2,
        relevant_spans={"mode": "enabled", "threshold": 0.2, "max_spans": 3},
    )
    assert found.results[0].index == 1
    assert len(found.results) == 2
    spans = [TEXTS[1][s.start : s.end] for s in found.results[0].relevant_spans]
    assert NEEDLE in spans
    assert found.meta.api_version.version == "2"
    assert found.meta.tokens.input_tokens > 0


def test_cohere_raises_what_it_would_for_its_own_service(service):
    with pytest.raises(cohere.UnauthorizedError):
        cohere.ClientV2(api_key="wrong-key-of-some-length", base_url=service.url).rerank(
            model="m", query=QUESTION, documents=TEXTS
        )
    with pytest.raises(cohere.UnprocessableEntityError):
        cohere.ClientV2(api_key=KEY, base_url=service.url).rerank(
            model="m", query=" ", documents=TEXTS
        )


def test_cohere_v1(service):
    found = cohere.Client(api_key=KEY, base_url=service.url).rerank(
        model="rerank-v3.5", query=QUESTION, documents=TEXTS, top_n=1, return_documents=True
    )
    assert found.results[0].index == 1
    assert found.results[0].document.text == TEXTS[1]


def test_voyage(service):
    client = voyageai.Client(api_key=KEY, base_url=f"{service.url}/v1")
    found = client.rerank(QUESTION, TEXTS, model="rerank-2.5", top_k=2)
    assert found.results[0].index == 1
    assert found.results[0].document == TEXTS[1]
    assert len(found.results) == 2
    assert found.total_tokens > 0


def test_tei_by_huggingface_hub(service):
    """`InferenceClient` has no call for `/rerank`; its session and headers carry TEI's request."""
    client = InferenceClient(model=service.url, token=KEY)
    answer = get_session().post(
        f"{client.model}/rerank",
        json={"query": QUESTION, "texts": TEXTS, "return_text": True, "truncate": True},
        headers=build_hf_headers(token=client.token),
        timeout=60,
    )
    answer.raise_for_status()
    found = answer.json()
    assert found[0]["index"] == 1
    assert found[0]["text"] == TEXTS[1]
    assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]


def test_litellm_as_cohere(service):
    found = litellm.rerank(
        model="cohere/rerank-v4.0",
        query=QUESTION,
        documents=TEXTS,
        top_n=2,
        api_base=service.url,
        api_key=KEY,
    )
    assert found.results[0]["index"] == 1
    assert len(found.results) == 2


def test_litellm_as_vllm(service):
    found = litellm.rerank(
        model="hosted_vllm/tamis",
        query=QUESTION,
        documents=TEXTS,
        api_base=service.url,
        api_key=KEY,
    )
    assert found.results[0]["index"] == 1


LITELLM = {
    "infinity/tamis": "/infinity",
    "huggingface/tamis": "",
    "voyage/rerank-2.5": "",
    "nvidia_nim/nvidia/rerank": "",
    "nvidia_nim/ranking/nvidia/rerank": "",
    "deepinfra/Qwen/Qwen3-Reranker-4B": "/v1",
    "fireworks_ai/qwen3-reranker-8b": "",
    "dashscope/qwen3-rerank": "/v1",
    "cohere/rerank-v4.0": "",
    "hosted_vllm/tamis": "",
    "jina_ai/jina-reranker-v3": "/v1/rerank",
}
"""Models of LiteLLM's rerank providers, and what their base has behind the service's address."""


@pytest.mark.parametrize("as_objects", [False, True], ids=["texts", "objects"])
@pytest.mark.parametrize("model", LITELLM)
def test_litellm_s_providers(service, model, as_objects):
    found = litellm.rerank(
        model=model,
        query=QUESTION,
        documents=[{"text": text} for text in TEXTS] if as_objects else TEXTS,
        top_n=2,
        return_documents=True,
        api_base=service.url + LITELLM[model],
        api_key=KEY,
    )
    results = sorted(found.results, key=lambda row: -row["relevance_score"])
    assert results[0]["index"] == 1
    if not model.startswith("deepinfra/"):  # which has no top_n, and returns scores alone
        assert len(results) == 2
        assert results[0]["document"]["text"] == TEXTS[1]


@pytest.mark.parametrize("model", ["hosted_vllm/tamis", "deepinfra/Qwen/Qwen3-Reranker-4B"])
def test_litellm_s_instruction_is_obeyed(service, model):
    def scores(**fields):
        found = litellm.rerank(
            model=model,
            query=QUESTION,
            documents=TEXTS,
            api_base=service.url + LITELLM[model],
            api_key=KEY,
            **fields,
        )
        return {row["index"]: row["relevance_score"] for row in found.results}

    assert scores(instruction="Prefer what is said about walls.") != scores()


def test_xinference(service):
    handle = xinference_client.RESTfulClient(service.url, api_key=KEY).get_model("default")
    found = handle.rerank(TEXTS, QUESTION, top_n=2, return_documents=True, return_len=True)
    assert found["results"][0]["index"] == 1
    assert found["results"][0]["document"]["text"] == TEXTS[1]
    assert len(found["results"]) == 2
