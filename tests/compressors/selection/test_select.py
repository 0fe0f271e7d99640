"""Selection: within the budget as joined, in one order, repeatable, and with bounded work."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.packer import find_overlaps, find_shared
from tamis.compressors.selection.select import ROOM_FLOOR, Selector, select
from tamis.compressors.types import SelectedUnits
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.interruption import interruptible
from tamis.probes.tokens import TextTokenizer
from tamis.text.terms import words as words_of
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import PLAIN, SENTENCES, pairs, words
from tests.compressors.selection.test_nested import taken_in_order
from tests.compressors.selection.test_rendering import NASTY, render, rules_for_rendering, split

# a busy machine is no failure: no deadline
some, many = settings(deadline=None), settings(deadline=None, max_examples=300)

COUNTERS = {
    "words": words,
    "pairs": pairs,
    "pairs across words": lambda: pairs(regex=False),
}
some_counter = st.sampled_from(sorted(COUNTERS)).map(lambda name: COUNTERS[name]())
LIKELY = st.lists(st.sampled_from([*SENTENCES, "A.", "b\n", "- it\n"]), max_size=6).map(" ".join)


@st.composite
def contexts(draw: st.DrawFn, texts: Any = LIKELY | NASTY) -> dict[str, Any]:
    """Passages with units and values: what `select` takes, budget, rules and counter aside."""
    texts_drawn = draw(st.lists(texts, min_size=1, max_size=5))
    passages = [Passage(text, title="A title", id="d") for text in texts_drawn]
    units = split(passages)
    # few distinct values, so that ties are common
    score = st.integers(0, 9).map(lambda tenth: tenth / 10)
    return {
        "passages": passages,
        "units": units,
        "values": draw(st.lists(score, min_size=len(units), max_size=len(units))),
        "passage_scores": draw(
            st.lists(score, min_size=len(texts_drawn), max_size=len(texts_drawn))
        ),
    }


@st.composite
def all_rules(draw: st.DrawFn) -> Rules:
    return replace(
        draw(rules_for_rendering()),
        order=draw(st.sampled_from(["original", "score", "edges"])),
        context_window=draw(st.integers(0, 2)),
        dedup=draw(st.sampled_from([None, 0.5, 1.0])),
        top_n=draw(st.sampled_from([None, 1, 2])),
        protect=draw(st.sampled_from([(), ("tiger",), ("^b", "你")])),
    )


def jaccard(one: str, other: str) -> float:
    a, b = (set(words_of(text)) for text in (one, other))
    return len(a & b) / len(a | b)


def has_near_duplicate(
    context: dict[str, Any], u: int, taken: set[int], share: float | None
) -> bool:
    """The slow way: compare a unit with all that were taken."""
    if share is None or any(is_shared(context, u, v) for v in taken):
        return share is not None
    text = [context["passages"][x.passage].text[slice(*x.visible)] for x in context["units"]]
    if len(set(words_of(text[u]))) < 4:
        return False
    return any(jaccard(text[u], text[v]) >= share for v in taken)


def is_shared(context: dict[str, Any], u: int, v: int) -> bool:
    """Whether a unit is all in another passage's, where one passage goes on in the other."""
    part, whole = (context["units"][x] for x in (u, v))
    one, other = (context["passages"][x.passage].text for x in (part, whole))
    go_on = any(find_overlaps([one, other])) and part.passage != whole.passage
    return go_on and one[slice(*part.visible)] in other[slice(*whole.visible)]


def passage_order(context: dict[str, Any], taken: set[int], order: str) -> list[int]:
    """The slow way: the kept passages in their order."""
    scores = context["passage_scores"]
    kept = sorted({context["units"][u].passage for u in taken})
    ranked = sorted(kept, key=lambda p: -scores[p])
    if order == "edges":
        ends: tuple[list[int], list[int]] = ([], [])
        for i, passage in enumerate(ranked):
            ends[i % 2].append(passage)
        return ends[0] + ends[1][::-1]
    return kept if order == "original" else ranked


def render_taken(context: dict[str, Any], taken: set[int], rules: Rules) -> str:
    order = passage_order(context, taken, rules.order)
    return render(context["passages"], context["units"], taken, rules, order)


def units_of_best(context: dict[str, Any], top_n: int | None) -> set[int]:
    filled = {unit.passage for unit in context["units"]}
    ranked = sorted(filled, key=lambda p: (-context["passage_scores"][p], p))[:top_n]
    return {u for u, unit in enumerate(context["units"]) if unit.passage in ranked}


@many
@given(contexts(), all_rules(), st.integers(1, 60), some_counter)
def test_a_selection_is_within_budget_as_joined_and_no_unit_left_out_would_fit(
    context: dict[str, Any], rules: Rules, tokens: int, counter: TextTokenizer
) -> None:
    budget, rules = Budget(max_tokens=tokens), replace(rules, fill=True)
    try:
        got = select(**context, budget=budget, rules=rules, counter=counter)
    except BudgetTooSmall:
        got = SelectedUnits((), "", 0)
    taken = set(got.units)
    assert got.text == render_taken(context, taken, rules)
    assert got.tokens == counter.count(got.text) <= tokens
    assert all(a < b for a, b in pairwise(got.units))
    for u in units_of_best(context, rules.top_n) - taken:
        if not has_near_duplicate(context, u, taken, rules.dedup):
            assert counter.count(render_taken(context, taken | {u}, rules)) > tokens


@some
@given(contexts(), all_rules(), st.integers(1, 60), some_counter)
def test_the_same_input_gives_the_same_selection(
    context: dict[str, Any], rules: Rules, tokens: int, counter: TextTokenizer
) -> None:
    def once() -> SelectedUnits | str:
        try:
            return select(**context, budget=Budget(tokens), rules=rules, counter=counter)
        except BudgetTooSmall as error:
            return str(error)

    assert once() == once()


@some
@given(contexts(), rules_for_rendering(), some_counter)
def test_a_generous_budget_keeps_everything(
    context: dict[str, Any], rules: Rules, counter: TextTokenizer
) -> None:
    rules = replace(rules, dedup=None)
    everything = range(len(context["units"]))
    text = render(context["passages"], context["units"], everything, rules)
    exact = Budget(max_tokens=max(1, counter.count(text)))
    for budget in (exact, Budget(max_tokens=10_000), Budget(ratio=1.0), Budget(threshold=0.0)):
        got = select(**context, budget=budget, rules=rules, counter=counter)
        assert (got.text, got.units) == (text, tuple(everything))


# units that blanks part, so that counts of words add up
ADDITIVE = st.lists(
    st.lists(st.sampled_from("abcde"), min_size=1, max_size=6).map(lambda w: " ".join(w) + "."),
    max_size=6,
).map(" ".join)


def is_mandatory(context: dict[str, Any], u: int, rules: Rules) -> bool:
    unit = context["units"][u]
    text = context["passages"][unit.passage].text[slice(*unit.visible)]
    return any(re.search(pattern, text) for pattern in rules.protect)


def slow_values(context: dict[str, Any], rules: Rules) -> list[float]:
    """What each unit is worth: what passages share counts as much as the best of its copies."""
    shared = find_shared(context["passages"] if rules.dedup else (), context["units"], ())
    values = list(context["values"])
    for one, other in shared.halves:
        values[one] = values[other] = max(values[one], values[other])
    worths = list(values)
    for u, whole in shared.repeats.items():
        worths[whole] = max(worths[whole], worths[u])
    return worths


def slow_order(context: dict[str, Any], rules: Rules) -> list[int]:
    """Candidates, the best first, and of copies in passages that overlap the first."""
    shared = find_shared(context["passages"] if rules.dedup else (), context["units"], ())
    values, worths = list(context["values"]), slow_values(context, rules)
    for one, other in shared.halves:
        values[one] = values[other] = max(values[one], values[other])
    shown = units_of_best(context, rules.top_n)
    shown |= {u for u in range(len(values)) if is_mandatory(context, u, rules)}
    return sorted(shown, key=lambda u: (-worths[u], u in shared.repeats, -values[u], u))


def good_units(context: dict[str, Any], rules: Rules) -> list[int]:
    """What may have room behind the first that does not fit."""
    order, values = slow_order(context, rules), slow_values(context, rules)
    low = min(context["values"], default=0)
    best = max((values[u] for u in order), default=0)
    return [u for u in order if values[u] - low >= ROOM_FLOOR * (best - low)]


def slow_room(context: dict[str, Any], tokens: int, rules: Rules, taken: set[int]) -> set[int]:
    """What is taken, and what still fits of mandatory units and of good ones."""
    first = [u for u in slow_order(context, rules) if is_mandatory(context, u, rules)]
    for u in first + good_units(context, rules):
        repeats = has_near_duplicate(context, u, taken, rules.dedup)
        if repeats and not is_mandatory(context, u, rules):
            continue
        if words().count(render_taken(context, taken | {u}, rules)) <= tokens:
            taken = taken | {u}
    return taken


def slow_greedy(context: dict[str, Any], tokens: int, rules: Rules) -> tuple[int, ...]:
    """One unit after the other, the joined text of each prefix counted, up to the first that does
    not fit; those before any fits are passed over. Then what fits of those worth .3 of the best."""
    units, order, taken = context["units"], slow_order(context, rules), set[int]()

    def steps() -> Iterator[int]:
        yield from (u for u in order if is_mandatory(context, u, rules))
        for u in order:
            yield u
            reach = rules.context_window if u in taken else 0
            for near in (u + d * sign for d in range(1, reach + 1) for sign in (-1, 1)):
                if 0 <= near < len(units) and units[near].passage == units[u].passage:
                    yield near

    for u in steps():
        is_free = not is_mandatory(context, u, rules)
        if u in taken or (is_free and has_near_duplicate(context, u, taken, rules.dedup)):
            continue
        if words().count(render_taken(context, taken | {u}, rules)) <= tokens:
            taken.add(u)
        elif taken:
            break
    return tuple(sorted(slow_room(context, tokens, rules, taken) if taken else ()))


@many
@given(contexts(ADDITIVE), all_rules(), st.integers(1, 40))
def test_estimates_choose_what_counting_every_prefix_would_choose(
    context: dict[str, Any], rules: Rules, tokens: int
) -> None:
    rules = replace(rules, protect=("^a", "c") if rules.protect else (), separator=" -- ")
    slow = slow_greedy(context, tokens, rules)
    if not slow and context["units"]:
        with pytest.raises(BudgetTooSmall):
            select(**context, budget=Budget(tokens), rules=rules, counter=words())
    else:
        got = select(**context, budget=Budget(tokens), rules=rules, counter=words())
        # without a rule against repeats all are taken at once where all fit and are shown
        everything = tuple(sorted(slow_order(context, rules)))
        fits = words().count(render_taken(context, {*everything}, rules)) <= tokens
        at_once = fits and len(everything) == len(context["units"]) and not rules.dedup
        assert got.units == (everything if at_once else slow)


class Steep(TextTokenizer):
    """The square of the words: a text has far more tokens than its parts together."""

    def count(self, text: str) -> int:
        return super().count(text) ** 2

    def count_many(self, texts: Sequence[str]) -> list[int]:
        return [self.count(text) for text in texts]


@some
@given(contexts(ADDITIVE), all_rules(), st.integers(1, 60))
def test_estimates_that_are_far_too_low_never_break_the_budget(
    context: dict[str, Any], rules: Rules, tokens: int
) -> None:
    steep = Steep(words()._plain, "steep")
    try:
        got = select(**context, budget=Budget(tokens), rules=rules, counter=steep)
    except BudgetTooSmall:
        return
    assert steep.count(got.text) == got.tokens <= tokens


def test_all_that_was_taken_by_estimate_may_have_to_go() -> None:
    steep = Steep(words()._plain, "steep")
    passages = [Passage("a. " * 40)]
    units = split(passages)
    got = select(passages, units, [1.0] * 40, [0], Budget(20), PLAIN, steep)
    assert got.tokens == 16


def test_what_repeats_a_unit_that_had_to_go_may_come_instead() -> None:
    steep = Steep(words()._plain, "steep")
    passages = [Passage("y. a b c d d. a b c d.")]
    # the first two make 36 tokens, by estimate 1 + 25; the first and the third make 25
    arguments = (passages, split(passages), [9, 8, 7], [0], Budget(35))
    assert select(*arguments, Rules(dedup=0.9, fill=True), steep).units == (0, 2)
    assert select(*arguments, Rules(dedup=0.9), steep).units == (0,), "no other budget needs it"


class Metered(TextTokenizer):
    """Counts the characters that are tokenised one text at a time."""

    chars = 0

    def count(self, text: str) -> int:
        self.chars += len(text)
        return super().count(text)


@pytest.mark.parametrize("elision", [None, "…"])
def test_the_work_does_not_grow_with_the_units_left_out(elision: str | None) -> None:
    rng = random.Random(7)
    vocabulary = " ".join(SENTENCES).split()

    def sentence() -> str:
        return " ".join(rng.choices(vocabulary, k=rng.randint(3, 25))) + "."

    passages = [Passage(" ".join(sentence() for _ in range(8))) for _ in range(500)]
    units = split(passages)
    values = [rng.random() for _ in units]
    metered = Metered(pairs()._plain, "metered")
    got = select(passages, units, values, [0.0] * 500, Budget(500), Rules(elision=elision), metered)
    assert 500 - 26 * 3 < got.tokens <= 500  # the next sentence has no room
    # counting the joined text for every unit would take len(units) times its length
    assert metered.chars < len(units) * len(got.text) / 20


def test_a_long_text_that_is_mostly_kept_is_counted_a_few_times() -> None:
    passages = [Passage("1. " * 5000)]
    units = split(passages)
    values = [random.Random(u).random() for u in range(5000)]
    metered = Metered(pairs()._plain, "metered")
    got = select(passages, units, values, [0.0], Budget(ratio=0.8), PLAIN, metered)
    chars = metered.chars
    assert got.tokens == metered.count(got.text) > 0.79 * metered.count(passages[0].text)
    # 5 while it grows, and one for each halving of what is in doubt at the end
    assert chars < 20 * len(passages[0].text)


TABLE = "| a | b |\n|---|---|\n" + "".join(f"| keys {i} | b |\n" for i in range(2000))


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        (TABLE, Rules(order="score")),
        ("".join(f"# Keys {i} of it\n\n" for i in range(2000)), Rules(fill=True)),
        ("".join(f"- It takes {i} seconds:\n" for i in range(2000)), Rules(context_window=2)),
    ],
)
def test_what_is_counted_for_leads_is_bounded(text: str, rules: Rules) -> None:
    passages = [Passage(text), Passage("Nothing is said here.")]
    units = units_of(passages)
    values = [random.Random(u).random() for u in range(len(units))]
    metered = Metered(pairs()._plain, "metered")
    got = select(passages, units, values, [0.0, 1.0], Budget(ratio=0.37), rules, metered)
    assert got.tokens > 0.3 * metered.count(text)
    assert metered.chars < 50 * len(text) + 1_000_000


def test_a_selection_stops_where_the_work_is_to_end() -> None:
    passages = [Passage("1. " * 2000)]
    units, calls = split(passages), 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 500:
            raise TimeoutError

    with interruptible(check), pytest.raises(TimeoutError):
        select(passages, units, [1.0] * 2000, [0.0], Budget(900), PLAIN, pairs())


@many
@given(contexts(), all_rules(), st.integers(1, 60), some_counter, st.data())
def test_least_tokens_of_passages_come_before_better_units_of_others(
    context: dict[str, Any], rules: Rules, tokens: int, counter: TextTokenizer, data: st.DataObject
) -> None:
    """A unit of a passage that asked for nothing means that others have what they asked for, unless
    all they have left are repeats or longer than the budget, or the first of theirs had no room."""
    least = st.integers(0, 20)
    context["passages"] = [replace(p, min_tokens=data.draw(least)) for p in context["passages"]]
    rules = replace(rules, protect=(), context_window=0, top_n=None)
    selector = Selector(**context, rules=rules, counter=counter)
    units, tokens_of = context["units"], selector._packer.unit_tokens
    try:
        taken = taken_in_order(selector, Budget(tokens))
    except BudgetTooSmall:
        return
    if len(taken) == len(units):
        return  # all fit
    for p, passage in enumerate(context["passages"]):
        own = [u for u in selector.candidates if units[u].passage == p]
        kept = [u for u in own if u in taken]
        left_out = [u for u in own if u not in taken and tokens_of[u] <= tokens]
        left_out = [u for u in left_out if not has_near_duplicate(context, u, taken, rules.dedup)]
        enough = sum(tokens_of[u] for u in kept) >= passage.min_tokens
        free = {u for u in taken if not context["passages"][units[u].passage].min_tokens}
        assert enough or not left_out or not kept or not free


class Counted(list[int]):
    """A list that counts how often its items are looked up."""

    lookups = 0

    def __getitem__(self, i: Any) -> Any:
        self.lookups += 1
        return super().__getitem__(i)


def test_least_tokens_take_work_in_proportion_to_the_units() -> None:
    def lookups(sentences: int) -> int:
        passages = [Passage(" ".join(f"w{i} x." for i in range(sentences)), min_tokens=1 << 31)]
        units = split(passages)
        selector = Selector(passages, units, [0.0] * len(units), [0.0], PLAIN, words())
        counted = selector._packer.unit_tokens = Counted(selector._packer.unit_tokens)
        assert len(selector.select(Budget(threshold=0.0)).units) == sentences
        return counted.lookups

    assert lookups(800) <= 4.5 * lookups(200)


@pytest.mark.parametrize("lead", ["# Keys\n\n", "Bring these:\n\n"])
def test_the_time_for_twenty_thousand_units_grows_with_their_number(lead: str) -> None:
    def seconds(lines: int) -> float:
        passages = [Passage(lead + "".join(f"- key {i} is here\n" for i in range(lines)))]
        units = units_of(passages, "en")
        values = [random.Random(u).random() for u in range(len(units))]
        clock = time.process_time()
        got = select(passages, units, values, [0.0], Budget(ratio=0.9), PLAIN, words())
        assert len(got.units) > 0.85 * lines
        return time.process_time() - clock

    assert seconds(20_000) < 10 * max(0.1, seconds(4_000))
