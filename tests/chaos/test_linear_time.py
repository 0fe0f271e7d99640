"""Parsers of requests on texts of some length; `make chaos` tries longer ones."""

from __future__ import annotations

from functools import partial

import pytest

from tests.chaos.linear_time import (
    HALVES,
    MOST_SHORT_SLOPE,
    SHORT_SIZES,
    STAGES,
    cases,
    check_growth,
    check_stage,
    growth,
    two_halves,
)


@pytest.mark.parametrize(("name", "part"), list(cases()))
def test_time_grows_with_the_length_and_no_faster(name, part):
    check_growth(name, part, SHORT_SIZES, MOST_SHORT_SLOPE)


@pytest.mark.parametrize("ends", HALVES, ids=["apart", "long line", "short lines", "one line"])
@pytest.mark.parametrize("name", STAGES)
def test_stages_behind_the_parsers_take_time_in_proportion(name, ends):
    line = "k{n}: a" if "\n" in ends else "😀 It is SO-{n}!"
    check_stage(name, line, ends, (1 << 12, 1 << 15), MOST_SHORT_SLOPE)


def test_failures_among_documents_are_found_in_proportion():
    line = "a{n}.py:1:1: error: b"
    check_stage("selection", line, HALVES[0], (1 << 14, 1 << 18), MOST_SHORT_SLOPE)


@pytest.mark.parametrize("ends", HALVES)
def test_two_halves_have_the_same_lines_and_their_own_ends(ends):
    text = two_halves("k{n}: a", ends, 1000)
    assert 500 < len(text) <= 1000
    assert text.count("k1: a" + ends[0]) >= 1
    assert text.count("k1: a") == 2


def test_a_parser_that_looks_at_all_that_came_before_is_found():
    def quadratic(text: str) -> None:
        for i in range(0, len(text), 64):
            text[:i].count("a")

    # the least of all attempts
    slope, _ = growth(lambda size: partial(quadratic, "a" * size), SHORT_SIZES, most=0.0)
    assert slope > MOST_SHORT_SLOPE
