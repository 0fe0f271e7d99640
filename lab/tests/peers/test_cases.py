"""The requests of peers, and how evidence is found in the text they keep."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.tests.bench.records import doc
from lab.tests.peers.kit import counter, people_cases, people_folder
from tamis.probes.errors import BadInput
from tamis_lab.bench.peers import (
    common_subsequence_length,
    find_evidence,
    interleave_sets,
    load_peer_cases,
    share_found,
    words_of,
)

WORDS = st.lists(st.sampled_from("abcd"), max_size=12)


@given(WORDS, WORDS)
def test_common_is_the_longest_common_subsequence(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = (
                table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
            )
    assert common_subsequence_length(a, b) == table[-1][-1]


def test_a_sentence_is_found_where_nine_words_in_ten_are_in_order_and_close():
    gold = [f"w{i}" for i in range(10)]
    assert share_found(gold, ["x", *gold, "y"]) == 1.0
    assert share_found(gold, [*gold[:4], *gold[5:]]) == 0.9
    assert share_found(gold, [*gold[:5], "x", "y", *gold[5:]]) == 1.0
    assert share_found(gold, gold[::-1]) == 0.1
    far = [*gold[:5], *["x"] * 30, *gold[5:]]
    assert share_found(gold, far) == 0.5
    assert share_found(gold, []) == 0.0


def test_words_fold_case_and_every_han_character_is_one():
    assert words_of("Don't STOP_now, 東京タワー 3.5") == [
        *("don", "t", "stop", "now"),
        *("東", "京", "タ", "ワ", "ー", "3", "5"),
    ]


def test_an_answer_counts_only_where_the_context_holds_it():
    kept, gold = "He lives in town\nnumber 4.", ["He lives in town number 4."]
    found = find_evidence(kept, gold, ["Town  Number 4"], f"Ann. {kept}")
    assert found == {"evidence": 1.0, "all": True, "words": 1.0, "answer": True}
    assert find_evidence("", gold, ["town number 4"], kept)["answer"] is False
    assert find_evidence(kept, gold, ["yes"], kept)["answer"] is None


def test_cases_are_the_same_whatever_their_number_and_hold_their_gold(tmp_path):
    few, more = people_cases(tmp_path, 2), people_cases(tmp_path, 5)
    assert more[:2] == few
    assert len({case.id for case in more}) == 5
    for case in more:
        assert len(case.request["docs"]) == 6  # its own and five distractors
        assert all(gold in case.request["context"] for gold in case.gold)
        assert case.budget_tokens == case.tokens // 4
        assert case.request["question"] != case.request["other_question"]
        for passage in case.request["docs"]:
            assert all(n == len(passage["text"][a:b].split()) for a, b, n in passage["sentences"])


def test_contexts_are_filled_up_with_passages_of_others_to_the_requested_tokens(tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    rows = (people_folder(tmp_path) / "people.jsonl").read_text().splitlines()
    # a second document each: the set is no longer one of lone passages
    made = [json.loads(row) for row in rows]
    for i, row in enumerate(made):
        row["docs"].append(doc(f"Filler number {i} says nothing.", title=f"filler {i}"))
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made), "utf8")
    words = counter(tmp_path)
    for case in load_peer_cases("pairs@60", folder, 4, 0.2, words):
        assert 40 < case.tokens <= 60
        assert len({d["title"] for d in case.request["docs"]}) == len(case.request["docs"]) > 2
        assert all(gold in case.request["context"] for gold in case.gold)
    with pytest.raises(BadInput, match="ask for fewer"):
        load_peer_cases("pairs@9000", folder, 1, 0.2, words)
    with pytest.raises(BadInput, match="NAME@TOKENS"):
        load_peer_cases("pairs@many", folder, 1, 0.2, words)


def test_sets_take_turns(tmp_path):
    a, b = people_cases(tmp_path, 3), people_cases(tmp_path, 1, 0.5)
    assert interleave_sets({"a": a, "b": b}) == [a[0], b[0], a[1], a[2]]
