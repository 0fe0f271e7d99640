"""What is kept as one: words partition a text, blocks hold whole paragraphs, lists and tables."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tamis
from tamis.compressors.rules import Rules
from tamis.compressors.selection.select import merge_units, split_words
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.methods import head_profile
from tests.scripted import ScriptedReader

DOCUMENT = """Keys are rotated every 90 days. The wall is blue.

Rooms are painted in spring. Nobody knows why.

- one thing
- another thing

| name | age |
|---|---|
| Ann | 31 |
| Bob | 29 |
"""
TEXTS = st.text(max_size=200) | st.text(
    st.sampled_from("ab \n\t.?!|-<>{}[]中あ한ก\u0301é`#"), max_size=120
)


def blocks_of(text: str, best: str = "\0") -> list[tuple[str, float]]:
    passages = [Passage(text)]
    units = units_of(passages)
    values = tuple(1.0 if best in text[u.start : u.stop] else 0.1 for u in units)
    blocks, scores = merge_units("block", passages, units, Scores(values, (1.0,)))
    return [(text[slice(*u.visible)], v) for u, v in zip(blocks, scores.values, strict=True)]


def test_a_block_is_a_paragraph_a_list_or_a_table_and_is_worth_its_best_sentence():
    assert [text.splitlines()[0] for text, _ in blocks_of(DOCUMENT)] == [
        "Keys are rotated every 90 days. The wall is blue.",
        "Rooms are painted in spring. Nobody knows why.",
        "- one thing",
        "| name | age |",
    ]
    assert [v for _, v in blocks_of(DOCUMENT, "Bob")] == [0.1, 0.1, 0.1, 1.0]


@given(TEXTS, TEXTS)
def test_words_blocks_and_documents_partition_what_the_sentences_did(first, second):
    passages = [Passage(first), Passage(second)]
    units = units_of(passages)
    scores = Scores((0.0,) * len(units), (0.0, 0.0))
    merged = [merge_units(how, passages, units, scores)[0] for how in ("block", "document")]
    for made in (split_words(passages, units), *merged):
        for p, passage in enumerate(passages):
            own = [u for u in made if u.passage == p]
            assert "".join(passage.text[u.start : u.stop] for u in own) == (
                passage.text if own else ""
            )
            assert all(a.stop == b.start for a, b in pairwise(own))
            for unit in own:
                visible = passage.text[slice(*unit.visible)]
                assert visible
                assert visible == visible.strip()


def test_a_word_of_a_script_without_spaces_is_a_character():
    passages = [Passage("密钥每90天更换。 next word")]
    shown = [passages[0].text[slice(*u.visible)] for u in split_words(passages, units_of(passages))]
    assert shown == ["密", "钥", "每", "90", "天", "更", "换", "。", "next", "word"]


def test_blocks_are_kept_whole_and_within_the_budget():
    reader = ScriptedReader.from_needles("Keys are rotated every 90 days.")
    rules = Rules(granularity="block")
    found = tamis.compress("How often?", [DOCUMENT], max_tokens=60, proxy=reader, rules=rules)
    assert found.text == "Keys are rotated every 90 days. The wall is blue."
    assert found.tokens_out <= 60
    assert len(found.scores) == len(found.units) == 4


def test_a_table_is_kept_before_what_is_worth_less():
    table = "| key | days |\n|---|---|\n| keys rotate | 1 |\n| rooms | 2 |"
    prose = "Whales are large animals of the sea. " * 3
    text = f"Keys rotate every 90 days, keys rotate.\n\n{table}\n\n{prose}\n\nOaks are trees."
    rules = Rules(granularity="block")
    found = tamis.compress("keys rotate", [text], max_tokens=45, method="lexical", rules=rules)
    assert table in found.text
    assert "Oaks" not in found.text


EXAMPLES = (
    "# Review\n\nThe soup was cold. Nobody cared.\n\nSentiment: negative",
    "# Review\n\nWarm bread, kind people. I came back.\n\nSentiment: positive",
    "# Review\n\nThe waiter dropped my coat. Twice.\n\nSentiment: negative",
)


@pytest.mark.parametrize("method", ["question_rows", "lexical"])
def test_examples_of_a_task_are_kept_whole_with_their_answers_the_best_first(method):
    reader = ScriptedReader.from_needles("kind people")
    rules = Rules(granularity="document", fill=True)
    question = "Kind people and warm soup, what is the sentiment?"
    for budget, most in ((80, 1), (150, 2)):
        found = tamis.compress(
            question, EXAMPLES, max_tokens=budget, method=method, proxy=reader, rules=rules
        )
        kept = [k.passage for k in found.kept]
        assert 1 in kept
        assert len(kept) <= most
        assert found.text == "\n\n".join(EXAMPLES[p] for p in kept)
        assert found.tokens_out <= budget


def test_an_example_is_worth_its_best_sentence():
    passages = [Passage(text) for text in EXAMPLES]
    units = units_of(passages)
    values = tuple(0.9 if "coat" in EXAMPLES[u.passage][u.start : u.stop] else 0.1 for u in units)
    documents, scores = merge_units("document", passages, units, Scores(values, (0.1, 0.1, 0.9)))
    assert [u.visible for u in documents] == [(0, len(text)) for text in EXAMPLES]
    assert scores.values == (0.1, 0.1, 0.9)
    assert {u.kind for u in documents} == {"sentence"}


def test_single_words_are_kept_by_a_method_that_can_score_one():
    reader = ScriptedReader.from_needles("90")
    rules = Rules(granularity="token")
    options = {"form": "token", "pool_tokens": 1, "profile": head_profile(reader)}
    found = tamis.compress(
        "How often?", [DOCUMENT], max_tokens=8, method="ehpc", proxy=reader, rules=rules, **options
    )
    assert "90" in found.text.split()
    assert found.tokens_out <= 8
    for k in found.kept:
        assert DOCUMENT[k.start : k.stop] in found.text


@pytest.mark.parametrize("method", ["question_rows", "lexical", "sentinel"])
def test_a_method_that_scores_sentences_refuses_words(method):
    with pytest.raises(BadInput, match="scores sentences, not words"):
        tamis.compress("a?", ["b c."], ratio=0.5, method=method, rules=Rules(granularity="token"))


def test_an_unknown_granularity_is_refused_with_the_known_ones():
    with pytest.raises(BadInput, match="sentence, block, document, token"):
        tamis.compress("a?", ["b."], ratio=0.5, method="lexical", rules=Rules(granularity="page"))
