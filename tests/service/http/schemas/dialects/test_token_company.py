"""The Token Company's tags: what stands between them is kept, in time linear in the text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.service.http.schemas.dialects.compressing import InputRequest

TAG = re.compile(r"<ttc_safe>(.*?)</ttc_safe>", re.DOTALL)
PIECES = st.lists(st.sampled_from(["<ttc_safe>", "</ttc_safe>", "Keys ", "é", "\n", " "]))


def document(text: str):
    (made,) = InputRequest(input=text, query="Which?").to_call(None).requests[0].documents
    return made


@given(PIECES)
def test_tags_are_removed_and_spans_hold_what_was_between_them(pieces: list[str]):
    """As a regular expression has it, which takes quadratic time where tags stay open."""
    text = "".join(pieces)
    made = document(text)
    assert made.text == TAG.sub(r"\1", text)
    kept = [made.text[start:stop] for start, stop in made.keep]
    assert kept == [inner for inner in TAG.findall(text) if inner.strip()]


@pytest.mark.parametrize("text", ["<ttc_safe>", "<ttc_safe>x", "</ttc_safe><ttc_safe>"])
def test_a_megabyte_of_tags_that_are_never_closed_takes_no_time(text: str):
    clock = time.process_time()
    document(text * (1_000_000 // len(text)))
    assert time.process_time() - clock < 1
