"""BM25 over the sentences of a case: bm25s as it comes, its tokenizer, English stop words."""

from __future__ import annotations

import bm25s
from protocol import serve
from sentences import select_sentences, sentences_of


def load(settings):
    def keep(case):
        sentences = sentences_of(case)
        index = bm25s.BM25()
        words = bm25s.tokenize(
            [text for _, text, _ in sentences], stopwords="en", show_progress=False
        )
        index.index(words, show_progress=False)
        asked = bm25s.tokenize(
            case["question"], stopwords="en", show_progress=False, return_ids=False
        )
        scores = index.get_scores(asked[0]) if asked[0] else [0.0] * len(sentences)
        return select_sentences(sentences, scores, case["budget_tokens"])

    return keep


if __name__ == "__main__":
    serve(load, "bm25s")
