"""BM25 over segments: as bm25s scores one build, and alike however the corpus came about."""

from __future__ import annotations

import bm25s
import numpy as np
import pytest

from tamis.retrieval.storage.postings import K1, B, index_terms
from tamis.text.types import CorpusDocument
from tests.retrieval.index.corpora import bm25_scores, build_index, delete, make_documents, put

QUESTION = "word1 word2 word2 word39 nowhere"


def test_scores_are_those_of_bm25s(tmp_path):
    documents = make_documents(60)
    ours = bm25_scores(build_index(tmp_path / "i", documents), QUESTION)
    peer = bm25s.BM25(method="lucene", k1=K1, b=B)
    peer.index([index_terms(d.text, "en") for d in documents], show_progress=False)
    theirs = peer.get_scores([t for t in index_terms(QUESTION, "en") if t in peer.vocab_dict])
    assert len(ours) == np.count_nonzero(theirs) > 10
    for document, score in zip(documents, theirs, strict=True):
        mine = ours.get(f"{document.id}#0-{len(document.text)}", 0.0)
        assert mine == pytest.approx(float(score), abs=1e-5)


def test_a_corpus_scores_alike_built_at_once_added_to_and_deleted_from(tmp_path):
    documents = make_documents(30)
    whole = bm25_scores(build_index(tmp_path / "whole", documents), QUESTION)
    parts = tmp_path / "parts"
    build_index(parts, documents[8:])
    for document in documents[:8]:
        put(parts, document)
    put(
        parts,
        CorpusDocument("late", "word1 word1 word1"),
        CorpusDocument(documents[3].id, "word2 again"),
    )
    put(parts, documents[3])
    found = bm25_scores(delete(parts, "late"), QUESTION)
    assert found.keys() == whole.keys()
    assert all(found[chunk] == pytest.approx(whole[chunk], abs=1e-6) for chunk in whole)


def test_tags_are_no_words_and_text_between_them_is():
    assert index_terms('<p class="intro">Keys rotate</p>', "en", html=True) == ["key", "rotate"]


def test_other_languages_keep_their_endings():
    assert index_terms("keys", "de") == ["keys"]
