"""Contexts whose answer was taken out: what is left, and what a floor makes of their scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.datasets.taken_out import (
    MAX_CHARS,
    everyday_contexts,
    with_cut_documents,
    without_gold_sentences,
)
from tamis_lab.train.probe.answerability import JudgedContext, choose_floors, context_aurocs

EVERYDAY = Path(__file__).parents[3] / "examples/everyday/documents.jsonl"


def document(sentences: list[str], gold: tuple[int, ...] = ()) -> dict[str, object]:
    starts = [sum(len(one) + 1 for one in sentences[:i]) for i in range(len(sentences))]
    sents = [[a, a + len(one)] for a, one in zip(starts, sentences, strict=True)]
    return {"title": "", "text": " ".join(sentences), "sents": sents, "gold": list(gold)}


def test_gold_sentences_are_cut_out_and_nothing_else() -> None:
    doc = document(["The bridge is old.", "It was opened in 1792.", "Boats pass."], (1,))
    assert without_gold_sentences(doc)["text"] == "The bridge is old. Boats pass."


def test_a_context_without_its_gold_holds_the_answer_nowhere() -> None:
    docs = [document(["A.", "It was opened in 1792."], (1,)), document(["Cheese ripens."])]
    record = {"id": "1", "question": "When?", "answers": ["1792"], "docs": docs}
    whole, contexts = with_cut_documents(record)
    assert {c.kind for c in contexts} == {"pool", "pool-docs", "pool-sents", "page", "page-sents"}
    for context in contexts:
        text = " ".join(whole["docs"][i]["text"] for i in context.docs)
        assert ("1792" in text) == context.answered
    docs[1] = document(["It closed in 1792."])
    assert all(c.kind != "pool-docs" for c in with_cut_documents(record)[1])


def test_a_long_document_is_cut_around_its_gold() -> None:
    doc = document([f"Sentence number {i} says little." for i in range(900)], (600,))
    record = {"id": "1", "question": "?", "answers": [], "docs": [doc]}
    page = with_cut_documents(record)[0]["docs"][0]
    start, stop = page["sents"][page["gold"][0]]
    assert page["text"][start:stop] == "Sentence number 600 says little."
    assert MAX_CHARS * 0.9 < len(page["text"]) <= MAX_CHARS


def test_everyday_documents_are_asked_three_questions_alone_and_among_others() -> None:
    found = everyday_contexts(EVERYDAY)
    assert len(found) == 72
    assert sum(context.answered for _, contexts in found for context in contexts) == 48
    assert {len(context.docs) for _, contexts in found for context in contexts} == {1, 5}


def test_floors_are_those_of_the_hardest_domain_and_judged_without_it() -> None:
    easy = [JudgedContext("a", "a", "pool", True, 0.9 + i / 1000) for i in range(50)]
    hard = [JudgedContext("b", "b", "pool", True, 0.3) for _ in range(50)]
    without = [JudgedContext("a", "a", "pool-docs", False, i / 100) for i in range(50)]
    found = choose_floors([*easy, *hard, *without])
    assert found["partly"] == pytest.approx(0.3)
    assert found["answerable"] == pytest.approx(0.441)
    assert found["false_refusals"] == 0.5  # b is below the floor that a alone would choose
    assert context_aurocs([*easy, *without]) == {"documents": 1.0}
    with pytest.raises(BadInput, match="1 domain"):
        choose_floors([*easy, *without])
