"""Conditions on metadata."""

from __future__ import annotations

import re
import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.retrieval.index.filters import MAX_CONDITION_CHARS, parse_conditions

METADATA = {"year": 2004, "lang": "en", "tags": ["a", "b"], "draft": False, "day": "2024-05-01"}


@pytest.mark.parametrize(
    "where",
    [
        "year=2004", "year=1999,2004", "year>=2004", "year<2005", "year!=1999", "lang=en",
        "lang!=de", "tags=b", "tags=x,a", "draft=false", "day>=2024-01-01", "day<2025", "gone!=x",
        " year >= 2003.5 ", {"year": 2004}, {"year": [1, 2004]}, {"year": {">": 2003, "<": 2005}},
        {"tags": "a", "lang": ["en", "fr"]}, {"draft": False}, ["lang=en", "year=2004"], None, [],
    ],
)  # fmt: skip
def test_a_condition_is_met(where):
    assert all(condition.is_met_by(METADATA) for condition in parse_conditions(where))


@pytest.mark.parametrize(
    "where",
    [
        "year=2005", "year>2004", "year!=2004", "lang!=de,en", "tags=c", "tags!=a", "draft=true",
        "gone=1", "gone>1", "lang>zz", "year>x", {"year": True}, {"draft": 0},
        {"lang": {"!=": "en"}},
        ["lang=en", "year=1"],
    ],
)  # fmt: skip
def test_a_condition_is_not_met(where):
    assert not all(condition.is_met_by(METADATA) for condition in parse_conditions(where))


@pytest.mark.parametrize(
    "where",
    [
        "year", "=3", "year=", "", {"year": {"~": 1}}, "year>=", {"a": {">": [1, 2]}},
        "id==d3", "year>3<5", "year=!3", "year=,", "year>==3",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(where):
    with pytest.raises(BadInput):
        parse_conditions(where)


def test_a_value_may_hold_signs_that_begin_nothing():
    (condition,) = parse_conditions("url!=http://x/?a=b<c")
    assert condition.values == ("http://x/?a=b<c",)


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_whole_numbers_compare_however_large(number):
    assert parse_conditions({"year": {"<": number}})[0].is_met_by(METADATA) == (number > 0)
    assert not parse_conditions({"year": str(number)})[0].is_met_by(METADATA)


def is_one_of_slowly(member, values):
    """Each value compared with the member, as it once was."""
    for value in values:
        if isinstance(value, str) and not isinstance(member, str):
            if isinstance(member, bool):
                if value.casefold() == str(member).casefold():
                    return True
                continue
            try:
                number = float(value)
            except ValueError:
                continue
            if isinstance(member, int | float) and member == number:
                return True
        elif member == value and isinstance(member, bool) == isinstance(value, bool):
            return True
    return False


VALUES = st.recursive(
    st.sampled_from((0, 1, 2, 2.0, -0.0, 2**53, 2**53 + 1, float("inf"), True, False, None, "a"))
    | st.sampled_from(("", "A", "١", "true", "TRUE", "1", "1.0", "02", " 2", f"{2**53 + 1}"))
    | st.sampled_from(("inf", "nan", "1e400")),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=3,
)


@settings(max_examples=500, deadline=None)
@given(VALUES, st.lists(VALUES, min_size=1, max_size=4))
def test_values_in_a_set_are_those_that_are_equal_one_by_one(member, values):
    expected = is_one_of_slowly(member, values)
    for sign in ("=", "!="):
        (condition,) = parse_conditions({"k": {sign: values}})
        assert condition.is_met_by({"k": [member]}) == (expected == (sign == "="))


@pytest.mark.parametrize("kind", [int, str, lambda i: f"d{i}"])
def test_a_document_is_compared_with_thousands_of_values_at_once(kind):
    began = time.thread_time()
    (condition,) = parse_conditions({"k": [kind(i) for i in range(8_000)]})
    assert not any(condition.is_met_by({"k": -1 - i}) for i in range(5_000))
    assert time.thread_time() - began < 1  # one by one: 11 s


OLD_CONDITION = re.compile(r"(?s)\s*([^=!<>]+?)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*")
"""What conditions were once parsed with: cubic on spaces, so short texts alone."""


def parse_slowly(text: str) -> tuple[str, str, tuple[str, ...]] | None:
    match = OLD_CONDITION.fullmatch(text)
    if match is None or not match[3].strip(" ,"):
        return None
    key, sign, value = match.groups()
    is_order = sign not in ("=", "!=")
    if value[0] in "=!<>" or (is_order and re.search("[<>]", value)):
        return None
    values = [value] if is_order else value.split(",")
    return key, sign, tuple(part.strip() for part in values)


PARTS = st.sampled_from([*"=!<>, \n\t\x1c\u2003\u00a0aé1.,", ">=", "<=", "!=", "year", "2004"])


@settings(max_examples=500, deadline=None)
@given(st.lists(PARTS, max_size=12).map("".join) | st.text(max_size=12))
def test_a_condition_is_what_the_old_pattern_took_it_for(text):
    try:
        (found,) = parse_conditions(text)
    except BadInput:
        assert parse_slowly(text) is None
    else:
        assert (found.key, found.sign, found.values) == parse_slowly(text)


@pytest.mark.parametrize("part", [" ", "a", "=", "a ", "a=", " =", "<", ",", "\n", "!", "a,"])
def test_the_longest_condition_is_parsed_or_refused_at_once(part):
    began = time.thread_time()
    for text in (part * (MAX_CONDITION_CHARS // len(part)), f"a{' ' * 5000}{part}"):
        with suppress(BadInput):
            parse_conditions(text)
    assert time.thread_time() - began < 0.1  # 600 spaces once took 3 s


def test_a_condition_has_a_most_and_its_error_says_the_way_out():
    longest = "id=" + "x" * (MAX_CONDITION_CHARS - 3)
    assert len(parse_conditions(longest)) == 1
    for where in (f"{longest}x", [f"{longest}x"], " " * 1_000_000):
        with pytest.raises(BadInput, match=r"characters and 10,000 is the most.*mapping") as caught:
            parse_conditions(where)
        assert len(str(caught.value)) < 200
    assert len(parse_conditions({"id": ["x" * 20_000]})) == 1
    for wrong in ("y" * 5000, f"y={'<' * 5000}", f"y<{'<' * 5000}"):
        with pytest.raises(BadInput) as caught:
            parse_conditions(wrong)
        assert len(str(caught.value)) < 300
