"""How large a caller's regular expression is once it is written out, without writing it out."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.patterns import compile_pattern, count_states, match_spans


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", 3),
        (r"\d{4}", 4),
        ("(?:ab){3}c", 13),  # `?` and `:` of the group: `:` counts as a character
        ("[a-z]{2,5}x", 6),
        (r"[]\]]{3}", 3),
        ("a{,7}", 7),
        ("a{}b{x}", 7),
        (r"\{9\}", 3),
        ("((a{10}){10}){10}", 1000),
    ],
)
def test_states(pattern, expected):
    assert abs(count_states(pattern) - expected) <= 3


@pytest.mark.parametrize("pattern", [")", "(", "[", "\\", "a**", "(?P<x>", "*"])
def test_what_is_no_regular_expression_is_refused_by_name(pattern):
    with pytest.raises(BadInput, match="no regular expression"):
        compile_pattern(pattern)


def test_ordinary_patterns_are_taken():
    around = "[^.]{0,200}"
    for pattern in (r"\b\d{4}-\d{2}-\d{2}\b", r"(?:ISO|DIN)[ -]?\d{3,5}", f"{around}x{around}"):
        assert compile_pattern(pattern)
    assert match_spans(compile_pattern(r"\d+"), "a 12 b 3") == [(2, 4), (7, 8)]
    assert match_spans(compile_pattern(r"x*"), "aa") == []
