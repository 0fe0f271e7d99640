"""One request from end to end: what is refused, what is read, and what comes back."""

from __future__ import annotations

import time
from itertools import count
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.pipeline.compression import Compressor, Request, check_room
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.text.inputs import to_passage
from tamis.text.types import Passage
from tests.compressors.selection.test_select import all_rules, contexts, some_counter
from tests.laws.methods import make_probe, question_probe
from tests.probes import tiny
from tests.scripted import ScriptedReader

HAY = "Hay lies here. More hay there."
PIN = "The pin is in the barn."
QUESTION = "Where is the pin?"
DOCUMENTS = [HAY, f"{PIN} It is red.", HAY]


def compressor_and_reader(trained: bool = True) -> tuple[Compressor, ScriptedReader]:
    """The default method over a reader that attends to the pin; a byte is a token."""
    reader = ScriptedReader.from_needles(PIN)
    probe = question_probe(reader) if trained else None
    return Compressor(QuestionRows(reader, probe), "question_rows", reader.layout.tokenizer), reader


def test_a_request_gives_text_spans_scores_and_counts():
    compressor, reader = compressor_and_reader()
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=30))
    assert out.text == PIN
    (kept,) = out.kept
    assert (kept.passage, kept.start, kept.stop, kept.unit) == (1, 0, len(PIN), 2)
    assert kept.score == out.scores[2] == max(out.scores)
    assert out.spans(1) == [(0, len(PIN))]
    assert out.tokens_out == len(PIN)
    assert out.tokens_in == len("\n\n".join(DOCUMENTS))
    assert out.ratio == out.tokens_out / out.tokens_in
    assert (out.method, out.tokenizer, out.status) == ("question_rows", "scripted", "ok")
    assert out.windows == reader.prompts_read == 3
    assert out.tokens_read > 0
    assert set(out.timings_ms) == {"segment", "tokenize", "read", "score", "select", "total"}


def test_stages_take_milliseconds_and_together_no_more_than_the_whole(monkeypatch):
    compressor, _ = compressor_and_reader()
    ticks = count(7)  # of a clock that goes on by a millisecond each time that it is looked at
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=30))
    stages = {name: round(ms, 6) for name, ms in out.timings_ms.items()}
    total = stages.pop("total")
    assert total == next(ticks) - 8 >= sum(stages.values())
    assert set(stages.values()) == {1}


@pytest.mark.parametrize("farthest", [0.0, 1e6])
def test_a_request_unlike_the_fit_is_told_of_and_its_coverage_is_the_hardest_domains(farthest):
    """`farthest` is how far a request may be from those of the fit: 0, and all are too far."""
    reader = ScriptedReader.from_needles(PIN)
    levels = {"lowest": [0.5, 0.6, 0.7, 0.8], "lowest_hardest": [0.1, 0.2, 0.3, 0.4]}
    weights = {**question_probe(reader).weights, **levels, "unlike": [farthest]}
    method = QuestionRows(reader, make_probe(reader, "question_rows", weights))
    compressor = Compressor(method, "question_rows", reader.layout.tokenizer)
    documents = [*DOCUMENTS, *[HAY] * 6]
    out = compressor.compress(QUESTION, documents, Budget(coverage=0.8))
    warned = any("unlike those that scores were fitted on" in line for line in out.warnings)
    assert warned == (farthest == 0)
    # the best unit is kept whatever it is worth
    assert out.threshold == pytest.approx(min(0.1 if warned else 0.5, max(out.scores)))
    assert any("coverage 0.8 is kept as on the hardest" in line for line in out.warnings) == warned
    limited = compressor.compress(QUESTION, documents, Budget(max_tokens=30))
    assert any("unlike" in line for line in limited.warnings) == warned
    assert limited.threshold is None
    own = compressor.compress(QUESTION, documents, Budget(threshold=0.3))
    assert own.threshold == 0.3
    few = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=30))
    assert not any("unlike" in line for line in few.warnings)


@pytest.mark.parametrize("budget", [Budget(max_tokens=10_000), Budget(ratio=1.0)])
def test_what_fits_is_passed_through_and_nothing_is_read(budget: Budget):
    compressor, reader = compressor_and_reader()
    out = compressor.compress(QUESTION, DOCUMENTS, budget)
    assert out.text == "\n\n".join(DOCUMENTS)
    assert out.status == "passthrough"
    assert out.scores == out.passage_scores == ()
    assert out.tokens_in == out.tokens_out == len(out.text)
    assert reader.prompts_read == out.windows == out.tokens_read == 0


def test_what_fits_to_the_token_is_passed_through_and_a_token_less_is_read():
    compressor, reader = compressor_and_reader()
    exact = len("\n\n".join(DOCUMENTS))
    assert (
        compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=exact)).status == "passthrough"
    )
    assert reader.prompts_read == 0
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=exact - 1))
    assert (out.status, reader.prompts_read) == ("ok", 3)


@pytest.mark.parametrize("documents", [[], [""], ["", " \n\t"]])
@pytest.mark.parametrize("budget", [Budget(max_tokens=1), Budget(ratio=0.1), Budget(threshold=0.5)])
def test_without_text_the_result_is_empty_whatever_the_budget(documents: list[str], budget: Budget):
    compressor, reader = compressor_and_reader()
    out = compressor.compress(QUESTION, documents, budget)
    assert (out.text, out.kept, out.tokens_out, reader.prompts_read) == ("", (), 0, 0)


@pytest.mark.parametrize("question", ["", " ", "\n\t\u3000", None, 7])
def test_an_empty_question_is_refused_even_when_all_would_fit(question: Any):
    compressor, reader = compressor_and_reader()
    with pytest.raises(BadInput, match=r"the question is (empty|of type)"):
        compressor.compress(question, DOCUMENTS, Budget(ratio=1.0))
    assert reader.prompts_read == 0


def test_a_threshold_keeps_what_is_likely_and_nothing_else():
    compressor, _ = compressor_and_reader()
    scores = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=30)).scores
    best, second = sorted(scores)[-1:-3:-1]
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(threshold=(best + second) / 2))
    assert out.text == PIN
    whole = compressor.compress(QUESTION, DOCUMENTS, Budget(threshold=0.0))
    assert whole.text == "\n\n".join(dict.fromkeys(DOCUMENTS))  # the same document is shown once
    nothing = compressor.compress(QUESTION, DOCUMENTS, Budget(threshold=1.0))
    assert nothing.text == ""
    assert "none of 6 sentences reaches the threshold 1" in nothing.warnings[0]


def test_a_threshold_without_probabilities_is_refused():
    for compressor in (
        compressor_and_reader(trained=False)[0],
        Compressor(Lexical(), "lexical", TextTokenizer(tiny.tokenizer(), "tiny")),
    ):
        with pytest.raises(BadInput, match=f"{compressor.name} gives no probabilities"):
            compressor.compress(QUESTION, DOCUMENTS, Budget(threshold=0.5))


def test_top_n_applies_even_where_everything_would_fit():
    compressor, reader = compressor_and_reader()
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(ratio=1.0), Rules(top_n=1))
    assert out.text == DOCUMENTS[1]
    assert out.status == "ok"
    assert reader.prompts_read == 3


def test_a_budget_below_the_shortest_sentence_is_refused_with_both_numbers():
    with pytest.raises(BudgetTooSmall, match=r"shortest sentence has 10 tokens .* budget is 9"):
        compressor_and_reader()[0].compress(QUESTION, DOCUMENTS, Budget(max_tokens=9))


def test_a_request_may_be_counted_by_another_tokenizer():
    compressor, _ = compressor_and_reader()
    other = TextTokenizer(tiny.tokenizer(), "tiny")
    out = compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=60), counter=other)
    assert out.tokenizer == "tiny"
    assert out.tokens_out == other.count(out.text) < len(out.text)


TURNS = [
    Passage(f"{PIN} It is red.", metadata={"speaker": "Ann", "day": 8, "note": ["x"]}),
    Passage("The pin is lost. It was red.", title="Attic", metadata={"speaker": "Bob", "day": ""}),
    Passage(HAY),
]
LINES = ["speaker: Ann; day: 8", "speaker: Bob", None]


def test_metadata_is_read_as_a_line_before_the_title_and_not_shown():
    """Reading by the line as a title is the oracle."""
    compressor, _ = compressor_and_reader()
    titles = [
        "\n".join(filter(None, (line, turn.title))) for line, turn in zip(LINES, TURNS, strict=True)
    ]
    titled = [Passage(turn.text, title=title) for turn, title in zip(TURNS, titles, strict=True)]
    want = compressor.compress("Where did Ann put the pin?", titled, Budget(max_tokens=30))
    rules = Rules(read_metadata=["speaker", "day"])
    got = compressor.compress("Where did Ann put the pin?", TURNS, Budget(max_tokens=30), rules)
    assert (got.text, got.scores) == (want.text, want.scores)
    assert "Ann" not in got.text
    plain = compressor.compress("Where did Ann put the pin?", TURNS, Budget(max_tokens=30))
    assert plain.scores != want.scores
    shown = Rules(read_metadata=("speaker",), titles=True)
    assert "Bob" not in compressor.compress(QUESTION, TURNS, Budget(max_tokens=200), shown).text


def test_metadata_that_no_document_has_is_warned_of_and_a_list_refused():
    compressor, _ = compressor_and_reader()
    named = Rules(read_metadata=("speaker", "place"))
    out = compressor.compress(QUESTION, TURNS, Budget(max_tokens=30), named)
    (warning,) = [text for text in out.warnings if "read_metadata" in text]
    assert "'place'" in warning
    with pytest.raises(BadInput, match=r"passage 0: the metadata 'note' is list"):
        compressor.compress(QUESTION, TURNS, Budget(30), Rules(read_metadata=("note",)))
    for bad in ("speaker", [""], [1], None):
        with pytest.raises(BadInput, match=r"give a list of names"):
            Rules(read_metadata=bad)


def test_titles_are_counted_where_they_are_shown():
    compressor, _ = compressor_and_reader()
    page = Passage(f"{PIN} {HAY}", title="Barns")
    shown = Rules(titles=True)
    out = compressor.compress(QUESTION, [page], Budget(max_tokens=len(PIN) + 6), shown)
    assert out.text == f"Barns\n{PIN}"
    assert out.tokens_in == len(page.text) + 6
    with pytest.raises(BudgetTooSmall):
        compressor.compress(
            QUESTION, [Passage(PIN, title="Barns")], Budget(max_tokens=len(PIN)), shown
        )


def test_the_language_decides_where_sentences_end():
    """`bzw.` is an abbreviation in German alone."""
    compressor, _ = compressor_and_reader()
    text = "Das ist gut bzw. Hervorragend gemacht worden."
    units = [
        len(compressor.compress(QUESTION, [text], Budget(ratio=1.0), language=code).units)
        for code in ("de", "en")
    ]
    assert units == [1, 2]


def test_a_passage_may_be_a_text_a_mapping_or_a_passage():
    facts = {"text": " a ", "id": "7", "title": "T", "metadata": {"k": 1}, "keep": [[0, 1]]}
    due = Passage(" a ", "7", "T", {"k": 1}, ((0, 1),), 2)
    assert to_passage(facts | {"min_tokens": 2}, 0) == due
    assert to_passage(MappingProxyType(facts | {"min_tokens": 2}), 0) == due
    assert to_passage({"text": "", "id": None, "title": None, "metadata": None}, 0) == Passage("")
    assert to_passage(" a\r\n", 0) == Passage(" a\r\n")
    assert to_passage(due, 0) is due


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "passage 3 is NoneType without a 'text' string"),
        (b"bytes", "passage 3 is bytes"),
        ({}, "passage 3 is dict without"),
        ({"text": None}, "without a 'text' string"),
        ({"text": ["a"]}, "without a 'text' string"),
        ({"text": "a", "page_content": "b"}, r"passage 3 has unknown fields \['page_content'\]"),
        ({"text": "a", "id": 7}, "passage 3: 'id' is 7; give a string"),
        ({"text": "a", "title": ["T"]}, "passage 3: 'title' is"),
        ({"text": "a", "metadata": "m"}, "passage 3: 'metadata' is 'm'"),
        ({"text": "a", "keep": [1, 2]}, "passage 3: 'keep' or 'min_tokens' cannot be read"),
        ({"text": "a", "keep": "ab"}, "passage 3: 'keep'"),
        ({"text": "a", "min_tokens": "many"}, "passage 3: 'keep' or 'min_tokens'"),
    ],
)
def test_a_malformed_passage_is_refused_with_its_place(given: Any, says: str):
    with pytest.raises(BadInput, match=says):
        to_passage(given, 3)


def test_the_place_in_the_list_is_the_one_named():
    with pytest.raises(BadInput, match="passage 1 is int"):
        compressor_and_reader()[0].compress(QUESTION, [HAY, 5], Budget(ratio=0.5))


@pytest.mark.parametrize("single", [HAY, {"text": HAY}, Passage(HAY)])
def test_a_single_passage_is_not_taken_for_a_list_of_characters(single: Any):
    with pytest.raises(BadInput, match="give a list"):
        compressor_and_reader()[0].compress(QUESTION, single, Budget(ratio=0.5))


def test_one_reading_serves_several_budgets():
    compressor, reader = compressor_and_reader()
    prepared = compressor.prepare(Request(QUESTION, DOCUMENTS, Budget(max_tokens=30)))
    scores = compressor.score(prepared)
    read = reader.prompts_read
    for most in (len(PIN), 40, 60):
        budget = Budget(max_tokens=most)
        found = compressor.select(prepared.with_budget(budget), scores)
        alone, _ = compressor_and_reader()
        assert found.text == alone.compress(QUESTION, DOCUMENTS, budget).text
        assert found.tokens_out <= most
    assert reader.prompts_read == read


def test_another_question_has_scores_of_its_own():
    compressor, _ = compressor_and_reader()
    prepared = compressor.prepare(Request("Is there hay?", DOCUMENTS, Budget(max_tokens=30)))
    again = prepared.with_question(QUESTION)
    alone = compressor.prepare(Request(QUESTION, DOCUMENTS, Budget(max_tokens=30)))
    assert again.units == prepared.units
    assert compressor.score(again) != compressor.score(prepared)
    assert compressor.score(again).values == compressor.score(alone).values


@pytest.mark.parametrize("always", [False, True])
def test_a_context_that_fits_is_scored_only_where_scores_are_wanted(always: bool):
    compressor, _ = compressor_and_reader()
    request = Request(QUESTION, DOCUMENTS, Budget(max_tokens=1000), always_score=always)
    prepared = compressor.prepare(request)
    assert prepared.fits
    assert prepared.needs_scores is always
    scores = compressor.score(prepared) if always else None
    found = compressor.select(prepared, scores)
    assert (found.status, found.text) == ("passthrough", "\n\n".join(DOCUMENTS))
    assert found.scores == (scores.values if always else ())
    assert [kept.score for kept in found.kept] == list(found.scores or [1.0] * len(found.units))


def test_a_budget_that_no_sentence_fits_is_refused_before_anything_is_read():
    # a part may have up to three tokens more than the text whose end it is
    for most, is_read in ((3, False), (6, False), (7, True)):
        compressor, reader = compressor_and_reader()
        with pytest.raises(BudgetTooSmall, match="the shortest sentence has 10 tokens as rendered"):
            compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=most))
        assert bool(reader.prompts_read) == is_read


@pytest.mark.parametrize(
    ("rules", "shortest"),
    [
        (Rules(), 10),  # "It is red."
        (Rules(granularity="block"), len(HAY)),
        (Rules(granularity="document"), len(HAY)),
        (Rules(top_n=1), 10),
    ],
)
def test_a_refused_budget_is_told_the_shortest_of_what_is_kept_whole(rules: Rules, shortest: int):
    compressor, _ = compressor_and_reader()
    with pytest.raises(BudgetTooSmall, match=f"the shortest sentence has {shortest} tokens"):
        compressor.compress(QUESTION, DOCUMENTS, Budget(max_tokens=3), rules)


@settings(max_examples=300)
@given(contexts(), all_rules(), st.integers(1, 12), some_counter, st.booleans())
def test_what_is_refused_before_reading_is_refused_alike_whatever_the_scores(
    context: dict[str, Any], rules: Rules, limit: int, counter: TextTokenizer, calibrated: bool
) -> None:
    compressor = Compressor(Lexical(), "lexical", counter)
    request = Request("tiger?", context["passages"], Budget(max_tokens=limit), rules)
    prepared = compressor.prepare(request)
    try:
        check_room(prepared)
        return
    except BudgetTooSmall as early:
        said = str(early)
    drawn = [*context["values"], 0.5] * len(prepared.units)
    values = tuple(drawn[: len(prepared.units)])
    scores = Scores(values, tuple(context["passage_scores"]), calibrated=calibrated)
    with pytest.raises(BudgetTooSmall) as late:
        compressor.select(prepared, scores)
    assert str(late.value) == said
