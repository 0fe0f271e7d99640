"""Conditions on metadata."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.index.filters import parse_conditions

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
