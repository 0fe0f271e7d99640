"""The sentences of a question: all of it but white space, in order, and never too many."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.reading.windows import MAX_SENTENCES, question_sentences, tokenize_question
from tests.probes import tiny


def sentences(question: str) -> list[str]:
    return [question[a:b] for a, b in question_sentences(question)]


@given(st.text(alphabet=st.sampled_from("ab. ?!\n\t-#:{}|你。？\ud83d"), max_size=200))
def test_sentences_hold_everything_but_white_space_in_order(question):
    spans = question_sentences(question)
    assert len(spans) <= MAX_SENTENCES
    flat = [at for span in spans for at in span]
    assert flat == sorted(flat)
    assert all(a < b for a, b in spans)
    outside = set(range(len(question))) - {i for a, b in spans for i in range(a, b)}
    assert not "".join(question[i] for i in outside).strip()


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
