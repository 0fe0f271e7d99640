"""Spans against sets of characters, the slow way."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.selection.select import Span, contains, merge_spans, overlaps

places = st.integers(0, 30)
spans = st.lists(st.tuples(places, places).map(lambda ends: (min(ends), max(ends))), max_size=8)


def characters(given_spans: list[Span]) -> set[int]:
    return {at for span in given_spans for at in range(*span)}


@given(spans)
def test_the_union_has_the_same_characters_in_the_fewest_spans(drawn: list[Span]) -> None:
    merged = merge_spans(drawn)
    assert characters(merged) == characters(drawn)
    assert all(start < stop for start, stop in merged)
    assert all(a[1] < b[0] for a, b in pairwise(merged))


@given(spans, places, st.integers(1, 9))
def test_what_is_asked_of_a_union_is_what_its_characters_say(
    drawn: list[Span], start: int, length: int
) -> None:
    merged, asked = merge_spans(drawn), set(range(start, start + length))
    assert overlaps(merged, start, start + length) == bool(asked & characters(drawn))
    assert contains(merged, start, start + length) == (asked <= characters(drawn))


def test_spans_that_touch_may_stay_apart_and_contain_nothing_across() -> None:
    assert contains([(0, 5), (5, 9)], 5, 9)
    assert not contains([(0, 5), (5, 9)], 3, 7)
