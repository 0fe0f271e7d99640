"""Open WebUI's and LibreChat's own rerankers against `tamis serve`, with the recipes' settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]
QUESTION = "How often are keys rotated?"
TEXTS = [
    "Nothing is said here. Nobody knows why.",
    "The wall is blue. Keys are rotated every 90 days. Rooms are painted in spring.",
    "Cheese ripens for a year. Caves are cool.",
]
RERANKERS = Path(sys.prefix) / "node_modules/@librechat/agents/dist/esm/tools/search/rerankers.mjs"
LIBRECHAT = """
const { createReranker } = await import(process.env.RERANKERS);
const [kind, url, question, texts] = JSON.parse(process.env.ASKED);
const reranker = createReranker({
  rerankerType: kind,
  jinaApiKey: "any",
  jinaApiUrl: `${url}/v1/rerank`,
  cohereApiKey: "any",
  cohereApiUrl: `${url}/v2/rerank`,
  ragApiUrl: url,
  ragApiTokenSupplier: async () => "any",
});
const fallen = [];
const metrics = { recordRerank: (record) => record.reason && fallen.push(record) };
console.log(JSON.stringify([await reranker.rerank(question, texts, 2, metrics), fallen]));
"""


def test_open_webui(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FROM_INIT_PY", "true")  # as its command sets it
    monkeypatch.setenv("WEBUI_SECRET_KEY", "any")
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from open_webui.retrieval.models.external import ExternalReranker

    reranker = ExternalReranker("any", f"{url}/v1/rerank", "tamis", 60)
    scores = reranker.predict([(QUESTION, text) for text in TEXTS])
    assert len(scores) == 3
    assert all(0 <= score <= 1 for score in scores)
    assert scores[1] == max(scores) > 0.5


@pytest.mark.parametrize("kind", ["jina", "cohere", "rag-api"])
def test_librechat(url: str, kind: str):
    asked = json.dumps([kind, url, QUESTION, TEXTS])
    done = subprocess.run(
        ["node", "--input-type=module", "--eval", LIBRECHAT],
        env=os.environ | {"RERANKERS": RERANKERS.as_uri(), "ASKED": asked},
        capture_output=True,
        text=True,
        check=True,
    )
    (first, second), fallen = json.loads(done.stdout)
    assert fallen == []  # it would go on with the order it had
    assert first["text"] == TEXTS[1]
    assert 1 >= first["score"] > second["score"] >= 0
