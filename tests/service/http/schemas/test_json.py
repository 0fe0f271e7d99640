"""Bodies of many values are parsed to the same, value by value, and their number is bounded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.service.http.schemas.json import (
    FEW_SIGNS,
    MAX_DEPTH,
    MAX_VALUES,
    Decoder,
    PatientDecoder,
    loads,
)

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "\\u0061": 3}}]'])
def test_a_name_that_an_object_has_twice_is_refused_and_named(text):
    with pytest.raises(json.JSONDecodeError, match="an object has the name 'a' twice"):
        loads(text.encode())
    many = f"[{text}{', 1' * FEW_SIGNS}]"
    with pytest.raises(json.JSONDecodeError, match="an object has the name 'a' twice"):
        loads(many.encode())
    assert loads(b'[{"a": 1}, {"a": {"a": 1}}]') == [{"a": 1}, {"a": {"a": 1}}]


def test_a_number_of_too_many_digits_is_refused_with_their_number():
    assert loads(b"9" * 4000) == int("9" * 4000)
    with pytest.raises(json.JSONDecodeError, match="a number has 4,301 digits, more than 4,000"):
        loads(b"9" * 4301)


@given(JSON)
def test_both_ways_of_parsing_agree(value):
    text = json.dumps(value)
    assert Decoder().decode(text) == PatientDecoder().decode(text) == value


@pytest.mark.parametrize(
    "text", ["[1,]", "[", '{"a"}', "[1 2]", "[NaN]", "[1e999]", '["\\q"]', "[01]", "", "[1]]"]
)
def test_both_ways_refuse_the_same(text):
    for decoder in (Decoder(), PatientDecoder()):
        with pytest.raises(ValueError, match=r"."):
            decoder.decode(text)


def test_a_list_of_many_values_is_read_whole_and_one_of_too_many_is_refused():
    many = list(range(FEW_SIGNS + 10))
    assert loads(json.dumps(many).encode()) == many
    with pytest.raises(json.JSONDecodeError, match="more than 500,000 values"):
        loads(b"[" + b"1," * MAX_VALUES + b"1]")


def test_a_deep_text_of_many_brackets_is_refused_as_deep():
    with pytest.raises(json.JSONDecodeError, match=f"deeper than {MAX_DEPTH}"):
        loads(b"[" * (FEW_SIGNS + 10))
