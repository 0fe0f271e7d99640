"""Found in the Middle by hand: a place's bias is subtracted; biases are read once a shape."""

from __future__ import annotations

import pytest

from tamis.compressors.reading.windows import EMPTY_QUERY
from tamis.compressors.registry import build_method
from tamis.probes.errors import BadInput
from tamis.text.types import Passage
from tamis_lab.methods.attention_sorting import WINDOW_TOKENS, AttentionSorting
from tamis_lab.methods.found_in_the_middle import DUMMY, FoundInTheMiddle
from tests.probes import tiny
from tests.scripted import ScriptedReader

QUESTION = "Where do the geese fly?"
TEXTS = ["A goose, white.", "Geese go south.", "Snow lies here."]
PASSAGES = [Passage(text) for text in TEXTS]
PLACES = (0.004, 0.001, 0.003)
"""The attention to a character by its place alone."""


def place_biased_reader(extra: float = 0.0015) -> ScriptedReader:
    """A model that attends to ends, and a little more to text with "south" in any place."""

    def weigh(question, passage):
        weights = []
        for place, text in enumerate(passage.split("\n\n")[:-1]):
            own = extra if "south" in text and question == QUESTION else 0.0
            weights += [PLACES[place] + own] * (len(text) + 2)
        return weights

    return ScriptedReader(weigh, layers=1, heads=1)


@pytest.mark.parametrize("each", [True, False])
def test_relevance_is_attention_less_what_a_dummy_draws_in_the_same_place(each):
    """Raw: .004, .0025, .003. Less the places: 0, .0015, 0."""
    dummy = "x" * 15 + "\n\n"
    method = FoundInTheMiddle(
        place_biased_reader(), each=each, dummy=dummy if each else "x" * 30 + "\n\n"
    )
    assert method.relevance(QUESTION, PASSAGES) == pytest.approx([0, 0.0015, 0], abs=1e-8)
    assert method.order(QUESTION, PASSAGES, [0.0] * 3) == (0, 2, 1)
    # without the calibration the first place wins, whatever is there
    assert AttentionSorting(place_biased_reader()).order(QUESTION, PASSAGES, [0.0] * 3) == (1, 2, 0)


def test_published_puts_one_dummy_among_the_other_documents_at_a_time():
    reader = place_biased_reader()
    FoundInTheMiddle(reader, each=True, dummy="x" * 15 + "\n\n").relevance(QUESTION, PASSAGES)
    (_, whole), *dummies = reader.read_log
    assert whole == "".join(f"{text}\n\n" for text in TEXTS)
    assert [text for _, text in dummies] == [whole.replace(text, "x" * 15) for text in TEXTS]
    assert {question for question, _ in dummies} == {QUESTION}


def test_a_list_of_hundreds_of_short_documents_is_calibrated_by_prompts_no_longer_than_its_own():
    reader = ScriptedReader.from_needles("south")
    passages = [Passage(f"Goose {i}.") for i in range(400)]
    FoundInTheMiddle(reader).relevance(QUESTION, passages)
    assert len(reader.read_log) == 4  # two prompts of documents, and two of as many dummies
    assert max(len(text) for _, text in reader.read_log) <= WINDOW_TOKENS  # a character is a token


def test_by_default_biases_are_read_once_for_lists_of_a_shape_and_ask_for_nothing():
    reader = ScriptedReader.from_needles("south")
    method = FoundInTheMiddle(reader)
    for text in ("Geese go south.", "South it was!!!", "No, go south..."):
        method.relevance(QUESTION, [Passage(TEXTS[0]), Passage(text)])
    questions = [question for question, _ in reader.read_log]
    assert questions.count(EMPTY_QUERY) == 1
    assert questions.count(QUESTION) == 3
    (_, dummies) = next(pair for pair in reader.read_log if pair[0] == EMPTY_QUERY)
    assert dummies == DUMMY[:32] * 2
    method.relevance(QUESTION, PASSAGES)
    assert [question for question, _ in reader.read_log].count(EMPTY_QUERY) == 2


def test_what_does_not_fit_into_a_prompt_is_calibrated_prompt_by_prompt():
    """Two places, then one: the third document is in the first place of its prompt."""
    dummy = "x" * 15 + "\n\n"
    method = FoundInTheMiddle(place_biased_reader(), each=True, window_tokens=40, dummy=dummy)
    assert method.relevance(QUESTION, PASSAGES) == pytest.approx([0, 0.0015, 0], abs=1e-8)


def test_one_document_is_not_read_and_bad_options_are_refused():
    reader = place_biased_reader()
    assert FoundInTheMiddle(reader).order(QUESTION, PASSAGES[:1], [1.0]) == (0,)
    assert FoundInTheMiddle(reader).order(QUESTION, [], []) == ()
    assert reader.prompts_read == 0
    for options in ({"window_tokens": 0}, {"dummy": ""}):
        with pytest.raises(BadInput, match="1"):
            FoundInTheMiddle(reader, **options)


def test_a_model_orders_the_same_twice(one_thread):
    method = build_method("found_in_the_middle", proxy=tiny.proxy("llama"))
    first = method.order(QUESTION, PASSAGES, [0.0] * 3)
    assert sorted(first) == [0, 1, 2]
    assert method.order(QUESTION, PASSAGES, [0.0] * 3) == first
