"""The cross-encoder that ships: by every door the same order, and the answer before its echo."""

from __future__ import annotations

import pytest

import tamis
from tamis.compressors.registry import build_method
from tests.service.http.app_kit import served

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("one_thread", "encoder_folder")]

QUESTION = "how long can milk stay out of the fridge"
DOCUMENTS = [
    "Milk is a white liquid food produced by the mammary glands of mammals.",
    "How long can milk stay out of the fridge? Many people ask this question every summer.",
    "Dairy should not be left at room temperature for more than two hours.",
    "The fridge was invented in 1913 for home use by Fred W. Wolf.",
    "Paris is the capital of France.",
]


def test_the_answer_is_first_and_what_has_nothing_to_do_with_it_last():
    ranked = tamis.rerank(QUESTION, DOCUMENTS, method="cross")
    assert ranked.results[0].index == 2
    assert ranked.results[-1].index in (3, 4)
    assert all(0 < item.score < 1 for item in ranked.results)


def test_a_document_scores_the_same_alone_and_in_any_order():
    cross = build_method("cross").encoder
    alone = [cross.score(QUESTION, [text]).item() for text in DOCUMENTS]
    assert cross.score(QUESTION, DOCUMENTS).tolist() == pytest.approx(alone, abs=0.05)
    backwards = cross.score(QUESTION, DOCUMENTS[::-1]).tolist()[::-1]
    assert backwards == pytest.approx(alone, abs=0.05)


def test_a_long_document_is_found_by_its_middle():
    filler = "The harbour was busy in the morning and quiet in the evening. " * 60
    long = filler + DOCUMENTS[2] + " " + filler
    ranked = tamis.rerank(QUESTION, [DOCUMENTS[0], long, DOCUMENTS[4]], method="cross")
    assert ranked.results[0].index == 1


def test_the_service_gives_what_the_library_gives():
    library = tamis.rerank(QUESTION, DOCUMENTS, method="cross")
    with served(method="cross") as service:
        answer = service.post("/v2/rerank", query=QUESTION, documents=DOCUMENTS)
    assert answer.status_code == 200, answer.text
    theirs = [(item["index"], item["relevance_score"]) for item in answer.json()["results"]]
    assert [index for index, _ in theirs] == [item.index for item in library.results]
    assert [score for _, score in theirs] == pytest.approx(
        [r.score for r in library.results], abs=1e-3
    )


def test_it_compresses_too():
    kept = tamis.compress(QUESTION, [" ".join(DOCUMENTS)], method="cross", max_tokens=30)
    assert DOCUMENTS[2] in kept.text
