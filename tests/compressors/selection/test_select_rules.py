"""The rules of selection one by one: which tokens count, what comes first, what is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.packer import NearDuplicates
from tamis.compressors.selection.select import select
from tamis.compressors.types import SelectedUnits
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import PLAIN, pairs, select_words
from tests.compressors.selection.test_rendering import split


def test_the_first_unit_that_does_not_fit_ends_the_choice_unless_it_is_to_fill_the_room() -> None:
    text, values = "a b. c d e f. g h.", [3, 2, 1]
    assert select_words(text, values, 4).units == (0,)
    got = select_words(text, values, 4, Rules(fill=True))
    assert (got.units, got.text, got.tokens) == ((0, 2), "a b. g h.", 4)
    assert select_words(text, values, 6, Rules(fill=True)).units == (0, 1)


def test_units_before_any_fits_are_passed_over() -> None:
    assert select_words("a b c d. e f g. h. i.", [4, 3, 2, 1], 2).units == (2, 3)


def test_a_unit_that_alone_is_too_long_is_taken_once_closing_an_elision_pays_for_it() -> None:
    passages = [Passage("a. b b b. c. d."), Passage("z z z z z z z z z.")]
    # a and d take 6 with the elision, b does not fit, c does, and then b saves 4 for its 3
    got = select_words(passages, [9, 7, 6, 8, 0], 8, Rules(elision="left out: a lot", dedup=None))
    assert got.units == (0, 1, 2, 3)


@pytest.mark.parametrize("order", ["score", "edges"])
def test_a_unit_is_counted_beside_its_neighbours_of_the_output(order: Any) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "x": 2, "ab": 3}, [("a", "b")]))
    counter, rules = TextTokenizer(tokenizer, "ab"), Rules(order=order, separator="", dedup=None)
    # of the input b stands far from a, beside x; of the output beside a, with which it merges
    passages = [Passage(text) for text in ("a", "x", "x", "x", "b", "xxxxxxxxx")]
    scores = [0.9, 0.3, 0.2, 0.1, 0.8, 0.0] if order == "score" else [0.1, 0.9, 0.3, 0.8, 0.2, 0.0]
    values = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    got = select(passages, split(passages), values, scores, Budget(4), rules, counter)
    assert (got.units, got.tokens, "ab" in got.text) == ((0, 1, 2, 3, 4), 4, True)


def test_costly_white_space_that_is_not_shown_is_not_paid_for() -> None:
    passages = [Passage("a \u2028\u2028\u2028b")]
    units = [Unit(0, 0, 5, (0, 1)), Unit(0, 5, 6, (5, 6))]
    assert pairs().count("\u2028") > 1
    assert select(passages, units, [0, 1], [0], Budget(1), PLAIN, pairs()).units == (1,)


def test_a_whole_that_fits_is_kept_though_each_part_with_an_elision_is_longer() -> None:
    rules = Rules(elision="left out: a lot", dedup=None)
    text = "a. b b b. c c c. d."
    assert select_words(text, [1, 0, 0, 2], 8, rules).units == (0, 1, 2, 3)
    assert select_words(text, [1, 0, 0, 2], 7, rules).text == "a. left out: a lot d."


def test_of_equal_values_the_earlier_unit_is_taken() -> None:
    assert select_words("a b. c d. e f.", [1, 1, 1], 4).units == (0, 1)


def test_headings_and_separators_are_paid_for() -> None:
    passages = [Passage("a b.", title="x y"), Passage("c d.", title="z")]
    rules = Rules(titles=True, citations="[{doc}]", separator="\n--\n")
    assert select_words(passages, [2, 1], 5, rules).tokens == 5
    assert select_words(passages, [2, 1], 9, rules).units == (0,)
    assert select_words(passages, [2, 1], 10, rules).text == "x y\n[1] a b.\n--\nz\n[2] c d."


def test_a_ratio_is_of_the_whole_context_as_rendered() -> None:
    passages = [Passage("a. b. c.", title="t"), Passage("d. e. f.", title="t")]
    rules = Rules(titles=True)
    assert select_words(passages, [6, 5, 4, 3, 2, 1], Budget(ratio=0.5), rules).tokens == 4


def test_a_budget_below_the_shortest_unit_names_both_numbers() -> None:
    rules = Rules(citations="[{doc}]")
    with pytest.raises(BudgetTooSmall, match=r"shortest sentence has 3 tokens .* the budget is 2"):
        select_words("a b. c d e.", [1, 2], 2, rules)


def test_units_to_keep_and_protected_ones_come_first() -> None:
    passages = [Passage("aa b. cc d. ee f.", keep=((6, 7),)), Passage("gg 12. hh i.")]
    rules = Rules(protect=(r"\d+",))
    got = select_words(passages, [5, 1, 5, 0, 5], 4, rules)
    assert (got.units, got.warnings) == ((1, 3), ())


def test_a_span_to_keep_touches_no_unit_that_only_borders_on_it() -> None:
    assert select_words([Passage("aa. bb. cc.", keep=((4, 8),))], [9, 0, 9], 1).units == (1,)


def test_mandatory_units_that_exceed_the_budget_are_kept_by_value_with_a_warning() -> None:
    got = select_words("1 a b. 2 c d. 3 e f. g.", [1, 3, 2, 9], 7, Rules(protect=(r"\d",)))
    assert got.units == (1, 2, 3)  # what room is left goes to the best
    says = "3 sentences are mandatory and take 9 tokens, the budget is 7; 1 of them"
    assert says in got.warnings[0]


def test_a_bad_regular_expression_is_named() -> None:
    with pytest.raises(BadInput, match=r"'\(a'.*no regular expression"):
        select_words("a.", [1], 9, Rules(protect=("b", "(a")))


def test_each_passage_first_gets_its_least_tokens_by_its_best_units() -> None:
    passages = [Passage("a b. c d. e f."), Passage("g h. i j. k l.", min_tokens=3)]
    assert select_words(passages, [9, 8, 7, 1, 3, 2], 8).units == (0, 1, 4, 5)
    assert select_words(passages, [9, 8, 7, 1, 3, 2], 4).units == (4, 5)


def test_least_tokens_that_are_not_met_or_take_the_best_ones_room_are_told() -> None:
    passages = [Passage("a b. c d. e f."), Passage("g h. i j. k l.", min_tokens=5)]
    (short,) = select_words(passages, [9, 8, 7, 1, 3, 2], 4).warnings
    assert "1 of 1 passages keep fewer tokens than their min_tokens (passage 1: 4 of 5)" in short
    passages = [Passage("a b."), Passage("g h. i j.", min_tokens=2)]
    (taken,) = select_words(passages, [9, 1, 3], 3).warnings
    assert "the best sentence, of passage 0, was left out: min_tokens" in taken
    assert not select_words(passages, [9, 1, 3], 4).warnings


def test_neighbours_follow_a_unit_before_those_of_lower_value() -> None:
    text = "a. b. c. d. e. f. g."
    values = [0, 0, 9, 0, 0, 5, 0]
    assert select_words(text, values, 3, Rules(context_window=1)).units == (1, 2, 3)
    assert select_words(text, values, 5, Rules(context_window=2)).units == (0, 1, 2, 3, 4)
    assert select_words([Passage("a."), Passage("b."), Passage("c.")], [0, 9, 1], 2,
                  Rules(context_window=1)).units == (1, 2)  # fmt: skip


def test_neighbours_of_a_mandatory_unit_come_after_all_mandatory_ones() -> None:
    rules = Rules(context_window=1, protect=(r"\d",))
    assert select_words("a. 1. b. c. d. 2. e.", [0, 9, 0, 0, 0, 1, 0], 3, rules).units == (0, 1, 5)
    assert select_words("a. 1. b. c.", [0, 5, 0, 3], 2, rules).units == (0, 1)


def test_neighbours_that_repeat_a_kept_unit_are_left_out() -> None:
    text, rules = "a b c d. x. a b c d. y.", Rules(context_window=1)
    assert select_words(text, [9, 5, 0, 0], 99, rules).units == (0, 1, 3)


def test_least_tokens_are_not_met_by_what_repeats_a_kept_unit() -> None:
    passages = [Passage("a b c d. a b c d. e f.", min_tokens=5), Passage("g. h.")]
    assert select_words(passages, [5, 4, 3, 9, 8], 7).units == (0, 2, 3)


def test_a_unit_that_repeats_a_better_one_is_left_out() -> None:
    text = "The cat sat here. the CAT sat, here! x. The cat sat here too. The cat."
    text = text.replace("! x", ".")
    values = [5, 9, 7, 1]
    assert select_words(text, values, 99, Rules(dedup=0.9)).units == (1, 2, 3)
    assert select_words(text, values, 99, Rules(dedup=0.8)).units == (1, 3)
    assert select_words(text, values, 99).units == (1, 2, 3)  # the same words, all of them
    assert select_words(text, values, 99, Rules(dedup=None)).units == (0, 1, 2, 3)


def test_a_text_that_was_given_back_has_no_near_duplicate() -> None:
    near_duplicates = NearDuplicates(["a b c d e", "e d c b a", "a b c d f"], 0.9)
    near_duplicates.add(0)
    assert [near_duplicates.is_near_duplicate(u) for u in range(3)] == [True, True, False]
    near_duplicates.remove(0)
    assert not any(near_duplicates.is_near_duplicate(u) for u in range(3))


def test_a_mandatory_unit_is_kept_though_it_repeats_another() -> None:
    passages = [Passage("a b c d. a b c d.", keep=((0, 1), (9, 10)))]
    assert select_words(passages, [1, 2], 99, Rules(dedup=0.5)).units == (0, 1)


def test_only_the_best_passages_are_shown_beside_mandatory_units() -> None:
    passages = [Passage("a. b."), Passage(""), Passage("c. 1."), Passage("d.")]
    scores = [0.5, 0.99, 0.1, 0.9]
    rules = Rules(top_n=2, protect=(r"\d",))
    assert select_words(passages, [1, 2, 9, 0, 3], 99, rules, scores).units == (0, 1, 3, 4)


TABLE = "| h h |\n| - |\n| r1 |\n| s2 t |\nend of it.\n| r3 |"


def table() -> tuple[list[Passage], list[Unit]]:
    """Header (7 words with its rule), two rows (3 and 4), a sentence (3), a row of no table (3)."""
    passages, kinds = [Passage(TABLE)], ["table_header", "table_row", "table_row"]
    lines = split(passages)
    header = replace(lines[0], stop=lines[1].stop, visible=(0, lines[1].visible[1]))
    units = [header, *lines[2:]]
    named = [*kinds, "sentence", "table_row"]
    return passages, [
        replace(unit, kind=kind)  # type: ignore[arg-type]
        for unit, kind in zip(units, named, strict=True)
    ]


def test_a_table_row_brings_its_header_and_pays_for_it() -> None:
    passages, units = table()
    got = select_words(passages, [0, 0, 9, 1, 0], 11, units=units)
    assert (got.units, got.text) == ((0, 2), "| h h |\n| - |\n| s2 t |")
    assert select_words(passages, [0, 0, 9, 1, 0], 9, units=units).units == (2, 3)
    assert select_words(passages, [0, 8, 9, 1, 0], 14, units=units).units == (0, 1, 2)


def test_a_row_after_other_text_belongs_to_no_header() -> None:
    passages, units = table()
    assert select_words(passages, [0, 0, 0, 0, 9], 3, units=units).units == (4,)


def test_the_best_row_is_kept_alone_where_its_header_leaves_no_room() -> None:
    passages, units = table()
    only = units[:1] + units[2:3]
    with pytest.raises(BudgetTooSmall, match="shortest sentence has 4 tokens"):
        select_words(passages, [1, 2], 3, units=only)
    assert select_words(passages, [1, 2], 4, units=only).units == (1,)
    assert select_words(passages, [1, 2], 7, units=only).units == (1,)  # the header would fit
    assert select_words(passages, [1, 2], 10, units=only).units == (1,)
    assert select_words(passages, [1, 2], 11, units=only).units == (0, 1)


def test_the_budget_error_names_a_budget_that_works() -> None:
    passages = [Passage("# Setup\n\nThe keys are rotated every ninety days.\n")]
    units = units_of(passages)
    with pytest.raises(BudgetTooSmall, match="shortest sentence has 7 tokens"):
        select_words(passages, [0.1, 0.8], 6, units=units)
    assert select_words(passages, [0.1, 0.8], 7, units=units).units == (1,)


def test_a_threshold_keeps_all_that_reach_it_and_what_is_mandatory() -> None:
    text = "a b c d e. f. g. 1."
    rules = Rules(protect=(r"\d",))
    assert select_words(text, [0.5, 0.4, 0.6, 0.0], Budget(threshold=0.5), rules).units == (0, 2, 3)


def test_a_threshold_that_nothing_reaches_keeps_nothing_and_says_so() -> None:
    got = select_words("a. b.", [0.1, 0.2], Budget(threshold=0.5))
    assert (got.units, got.text, got.tokens) == ((), "", 0)
    assert "none of 2 sentences reaches the threshold 0.5" in got.warnings[0]


def test_passages_are_shown_in_the_order_of_the_rules_and_units_ascend() -> None:
    passages = [Passage(f"{letter}. {letter}{letter}.") for letter in "abcd"]
    scores = [0.1, 0.4, 0.2, 0.3]
    got = select_words(passages, [1] * 8, 99, Rules(order="edges", separator=" "), scores)
    assert got.text == "b. bb. c. cc. a. aa. d. dd."
    assert got.units == tuple(range(8))


def test_no_units_make_an_empty_selection() -> None:
    assert select_words([Passage(""), Passage("  ")], [], 5) == SelectedUnits((), "", 0)
    assert select_words([], [], 5) == SelectedUnits((), "", 0)


@pytest.mark.parametrize(
    ("values", "scores", "message"),
    [
        ([1.0], [0.0], "got 1 values for 2 units"),
        ([1.0, 2.0], [], "got 0 passage scores for 1 passages"),
        ([1.0, float("nan")], [0.0], "1 of 2 values are not finite, the first is nan at 1"),
        ([1.0, 2.0], [float("inf")], "1 of 1 passage scores are not finite"),
    ],
)
def test_missing_and_infinite_numbers_are_refused(
    values: list[float], scores: list[float], message: str
) -> None:
    with pytest.raises(BadInput, match=message):
        select_words("a. b.", values, 5, passage_scores=scores)


@pytest.mark.parametrize(
    "rules", [{"context_window": -1}, {"dedup": 0.0}, {"dedup": 1.5}, {"top_n": 0}, {"order": "x"}]
)
def test_rules_that_cannot_be_followed_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="; give"):
        Rules(**rules)
