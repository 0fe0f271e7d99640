"""Excerpts are verbatim, short, and hold the whole evidence or none of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tamis_lab.datasets.excerpts import MAX_SENTENCES, excerpt_with_answer, excerpt_without_answer

SENTENCES = st.lists(st.text("ab ", min_size=1, max_size=5), min_size=1, max_size=12)


@st.composite
def documents(draw, gold):
    sentences = draw(SENTENCES)
    spans, at = [], 0
    for sentence in sentences:
        spans.append([at, at + len(sentence)])
        at += len(sentence)
    marked = draw(st.sets(st.integers(0, len(sentences) - 1), min_size=1)) if gold else set()
    return {"title": "T", "text": "".join(sentences), "sents": spans, "gold": sorted(marked)}


@st.composite
def records(draw):
    docs = [*draw(st.lists(documents(False), max_size=3)), draw(documents(True))]
    return {"id": draw(st.integers(0, 10**6)), "question": "a?", "docs": docs}


def sentences_of(doc):
    return [doc["text"][a:b] for a, b in doc["sents"]]


@given(records())
def test_an_excerpt_is_a_run_of_sentences_with_all_of_the_evidence_or_none(record):
    holder = record["docs"][-1]
    evidence = [sentences_of(holder)[i] for i in holder["gold"]]
    found = excerpt_with_answer(record)
    assert found == excerpt_with_answer(record)
    if found is None:
        assert max(holder["gold"]) - min(holder["gold"]) >= MAX_SENTENCES
    else:
        (doc,) = found["docs"]
        assert doc["text"] in holder["text"]
        assert "".join(sentences_of(doc)) == doc["text"]
        assert len(doc["sents"]) <= MAX_SENTENCES
        assert [sentences_of(doc)[i] for i in doc["gold"]] == evidence
    found = excerpt_without_answer(record)
    if found is not None:
        (doc,) = found["docs"]
        assert any(doc["text"] in other["text"] for other in record["docs"])
        assert doc["text"].strip()
        assert doc["gold"] == []
        assert found["answerable"] is False
        assert len(doc["sents"]) <= MAX_SENTENCES
        assert found["id"] != record["id"]


def test_evidence_in_two_documents_has_no_excerpt():
    doc = {"title": "T", "text": "a. b.", "sents": [[0, 3], [3, 5]], "gold": [0]}
    record = {"id": "1", "question": "a?", "docs": [doc, doc]}
    assert excerpt_with_answer(record) is None
    assert excerpt_without_answer(record) is None
