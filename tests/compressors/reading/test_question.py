"""The sentences of a question that ask, in order, and never too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.reading.windows import (
    MAX_SENTENCES,
    asking_text,
    question_sentences,
    tokenize_question,
)
from tamis.text.units.segment import segment
from tests.probes import tiny


def sentences(question: str) -> list[str]:
    return [question[a:b] for a, b in question_sentences(question)]


@given(st.text(alphabet=st.sampled_from("ab. ?!\n\t-#:{}|你。？\ud83d"), max_size=200))
def test_sentences_are_in_order_and_lines_without_a_question_mark_are_left_whole(question):
    spans = question_sentences(question)
    assert len(spans) <= MAX_SENTENCES
    flat = [at for span in spans for at in span]
    assert flat == sorted(flat)
    assert all(a < b for a, b in spans)
    inside = {i for a, b in spans for i in range(a, b)}
    joined = list(question)  # a sentence over two lines makes one of them
    for piece in segment(question):
        joined[slice(*piece.visible)] = question[slice(*piece.visible)].replace("\n", " ")
    at = 0
    for line in "".join(joined).split("\n"):
        outside = "".join(line[i] for i in range(len(line)) if at + i not in inside)
        assert not outside.strip() or "?" in line or "？" in line
        at += len(line) + 1


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who came in?", ["Who came in?"]),
        (
            "Printer is offline\nIt was fine. Any idea?",
            ["Printer is offline", "It was fine.", "Any idea?"],
        ),
        ("  Who? \n\n When?  ", ["Who?", "When?"]),
        ("谁来了？我们没有看到他。", ["谁来了？", "我们没有看到他。"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_a_title_and_the_sentences_of_a_body_are_found(question, expected):
    assert sentences(question) == expected


STORY = "Our shop moved in May. The lock is new. When does it open? Thanks, Ines."


def test_of_a_message_those_sentences_count_that_ask():
    asked = "When does it open?"
    assert sentences(STORY) == [asked]
    assert asking_text(STORY) == asked
    assert sentences(f"{STORY}\nNo rush.") == [asked, "No rush."]
    both = STORY.replace("The lock is new.", "Is the lock new?").replace("moved in May", "moved")
    assert sentences(f"It rains. {both}") == ["Is the lock new?", asked]
    assert asking_text(f"It rains. {both}") == f"Is the lock new? {asked}"


@pytest.mark.parametrize(
    "question",
    [
        "When does it open?",
        "Our shop moved in May. When does it open?",
        "Our shop moved in May. The lock is new. Tell me when it opens.",
        "Our shop moved in May.\n\nThe lock is new.\n\nWhen does it open?",
    ],
)
def test_a_single_sentence_beside_it_and_lines_of_their_own_count_with_it(question):
    assert asking_text(question) is question
    assert "".join(sentences(question)) == question.replace(". ", ".").replace("\n\n", "")


def test_the_rows_of_the_only_sentence_that_asks_are_those_that_count():
    layout = tiny.proxy("llama").layout
    ask = tokenize_question(layout, STORY)
    ((first, last),) = ask.sentences
    assert list(ask.ids[first:last]) == layout.tokenizer.encode("When does it open?").ids


@pytest.mark.parametrize("count", [MAX_SENTENCES, MAX_SENTENCES + 1, 100])
def test_many_sentences_are_joined_to_runs_of_about_the_same_length(count):
    found = sentences(" ".join(f"This is sentence {i:03}." for i in range(count)))
    assert len(found) == MAX_SENTENCES
    assert max(map(len, found)) - min(map(len, found)) <= 2 * len("This is sentence 000. ")


def test_rows_of_a_question_are_those_of_its_sentences_without_the_template():
    layout = tiny.proxy("llama").layout
    ask = tokenize_question(layout, "Who came in? It was dark.")
    (first, middle), (again, last) = ask.sentence_rows
    assert 0 <= first < middle <= again < last < ask.rows
    alone = [layout.tokenizer.encode(text).ids for text in ("Who came in?", "It was dark.")]
    assert [list(ask.ids[a:b]) for a, b in ask.sentences] == alone


@pytest.mark.parametrize("question", ["", " ", "Who came in?", "\n\nWho came in?  "])
def test_of_a_question_without_two_sentences_all_rows_count(question):
    assert tokenize_question(tiny.proxy("llama").layout, question).sentences == ()
