"""The rule for whether a unit stops in mid-sentence, by hand."""

from __future__ import annotations

import pytest

from tamis.text.types import Piece
from tamis_lab.bench.documents import stops_mid_sentence

STOPS = [
    ("The size of the window is set by", " the caller."),
    ("The size of the window is set\n", "by the caller of this function."),
    ("It is described elsewhere (e.g. ", "Debian Policy)."),
    ('See [Chapter](a.html "6. ', 'The kernel") for more.'),
    ("It prints `a. ", "B` to the screen."),
    ("Packages should use the directory and\n", "ExtUtils in that order."),
]
ENDS = [
    ("The size is set by the caller. ", "it is large."),
    ("The size of the window is set\n\n", "by the caller."),
    ("These are the colours of the flag:\n", "red and white"),
    ("apples\n", "pears"),
    ("- a list of the things to do\n", "- another of the things"),
    ("x = first(of, the, list)\n", "return x"),
    ("The Debian system\n", "Debian is a system."),
]


def _is_cut(before: str, after: str) -> bool:
    first = Piece(0, len(before), (0, len(before.rstrip())))
    text = before + after
    second = Piece(len(before), len(text), (len(before), len(text)))
    return stops_mid_sentence(text, [first, second], 0)


@pytest.mark.parametrize(("before", "after"), STOPS)
def test_a_cut_inside_a_sentence_is_found(before: str, after: str) -> None:
    assert _is_cut(before, after)


@pytest.mark.parametrize(("before", "after"), ENDS)
def test_a_cut_at_the_end_of_something_is_none(before: str, after: str) -> None:
    assert not _is_cut(before, after)


def test_the_last_unit_stops_where_the_text_does() -> None:
    text = "The size is set by"
    assert not stops_mid_sentence(text, [Piece(0, len(text), (0, len(text)))], 0)
