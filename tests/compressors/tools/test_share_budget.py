"""How a budget is divided among outputs: small ones whole, none empty, never too much in all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.tools.types import SMALL_TOKENS, share_budget

SIZES = st.lists(st.integers(0, 5_000), min_size=1, max_size=12)


@given(SIZES, st.integers(0, 20_000))
def test_shares_are_within_the_budget_and_no_larger_than_the_outputs(tokens, budget):
    limits = share_budget(tokens, budget)
    assert sum(limits) <= max(budget, 0)
    assert all(0 <= limit <= count for limit, count in zip(limits, tokens, strict=True))


@given(SIZES)
def test_what_fits_in_all_is_kept_whole(tokens):
    assert share_budget(tokens, sum(tokens)) == tokens


@given(SIZES, st.integers(0, 20_000))
def test_small_outputs_are_whole_where_every_output_may_have_as_much(tokens, budget):
    if budget >= sum(min(count, SMALL_TOKENS) for count in tokens):
        limits = share_budget(tokens, budget)
        assert all(
            limit >= min(count, SMALL_TOKENS) for limit, count in zip(limits, tokens, strict=True)
        )


@given(st.lists(st.integers(1, 5_000), min_size=1, max_size=12), st.integers(12, 20_000))
def test_no_output_is_left_without_a_token(tokens, budget):
    assert all(share_budget(tokens, budget))


def test_large_outputs_share_the_rest_in_proportion():
    assert share_budget([100, 1_200, 4_200], 1_500) == [100, 400, 1_000]
