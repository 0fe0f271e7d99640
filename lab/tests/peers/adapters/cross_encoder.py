"""A cross-encoder from a folder: every sentence, with the question, gets one score."""

from __future__ import annotations

from protocol import serve
from sentence_transformers import CrossEncoder
from sentences import select_sentences, sentences_of


def load(settings):
    model = CrossEncoder(settings["weights"], device="cpu", local_files_only=True)

    def keep(case):
        sentences = sentences_of(case)
        pairs = [(case["question"], text) for _, text, _ in sentences]
        scores = model.predict(pairs, show_progress_bar=False)
        return select_sentences(sentences, scores, case["budget_tokens"])

    return keep


if __name__ == "__main__":
    serve(load, "sentence-transformers", "transformers", "torch")
