"""Parsers of requests on texts of some length; `make chaos` tries longer ones."""

from __future__ import annotations

import pytest

from tests.chaos.linear_time import MOST_SHORT_SLOPE, SHORT_SIZES, cases, check_growth, growth


@pytest.mark.parametrize(("name", "part"), list(cases()))
def test_time_grows_with_the_length_and_no_faster(name, part):
    check_growth(name, part, SHORT_SIZES, MOST_SHORT_SLOPE)


def test_a_parser_that_looks_at_all_that_came_before_is_found():
    def quadratic(text: str) -> None:
        for i in range(0, len(text), 64):
            text[:i].count("a")

    slope, _ = growth(quadratic, "a", SHORT_SIZES, most=0.0)  # the least of all attempts
    assert slope > MOST_SHORT_SLOPE
