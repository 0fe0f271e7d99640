"""Text that is written shorter with nothing left out: the inverse gives it back, whatever it is."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tamis
from tamis.compressors.tools.lossless import (
    FORMS,
    LINE_FORMS,
    REPEATS,
    restore,
    without_colours,
    write_shorter,
)
from tamis.probes.errors import BadInput
from tamis.probes.tokens import estimating_tokenizer

COUNTER = estimating_tokenizer()
CASES = int(os.environ.get("CASES", "150"))
QUIET = settings(deadline=None, max_examples=CASES, suppress_health_check=[HealthCheck.too_slow])
LINES = st.sampled_from(
    [
        *("\n", "  \n", "ok\n", "a\n", "\x1b[32mPASSED\x1b[0m tests/a.py::test_one\n", "no end"),
        *(f"2026-11-29 08:04:{second} INFO queue {second}\n" for second in range(10, 14)),
        *(f"service/very/long/path/of/a/module_{name}.py:{name}\n" for name in "12345"),
        *("[… repeated 3 times]\n", "[… these 2 lines repeated 9 times]\n", "crlf\r\n", "\u2028\n"),
        *("[… 3 lines begin with: ab]\n", '{"a": 1, "b": "x"}\n', '{"a":2,"b":"y"}\n', "]\n"),
        "[The whole text, written shorter: colours are removed.]\n",
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=12,
)
ROWS = st.lists(st.fixed_dictionaries({"id": SCALARS, "name": VALUES}), max_size=9)


@st.composite
def documents(draw):
    """JSON as programs write it."""
    value = draw(VALUES | ROWS)
    indent = draw(st.sampled_from([None, 1, 2, 3, 4, "\t"]))
    separators = draw(st.sampled_from([None, (",", ":")])) if indent is None else None
    if isinstance(value, list) and draw(st.booleans()):
        return "".join(json.dumps(one) + "\n" for one in value)
    plain = draw(st.booleans())
    made = json.dumps(value, indent=indent, separators=separators, ensure_ascii=plain)
    return made + "\n" * draw(st.integers(0, 2))


TEXTS = st.one_of(
    st.lists(LINES, max_size=40).map("".join),
    st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), st.integers(1, 9)), max_size=6).map(
        lambda blocks: "".join("".join(lines) * times for lines, times in blocks)
    ),
    documents(),
    st.text(max_size=200),
)


@QUIET
@given(TEXTS)
def test_the_inverse_of_each_form_gives_the_text_back(text):
    for form in FORMS:
        written = form.write(text)
        if written is not None and len(written) < len(text):
            # else it is not used; `write_shorter` checks the same of every output
            assert form.restore(written) == text


@QUIET
@given(TEXTS, st.sampled_from([FORMS, LINE_FORMS]))
def test_what_is_written_is_shorter_and_gives_the_text_back_without_colours(text, forms):
    written = write_shorter(text, COUNTER, forms)
    if written != text:
        assert COUNTER.count(written) < COUNTER.count(text)
        assert restore(written) == without_colours(text)


@QUIET
@given(st.lists(LINES, max_size=40).map("".join))
def test_forms_of_lines_leave_lines_as_they_are(text):
    """So `^` finds what it found before, in colour or not."""
    written = write_shorter(text, COUNTER, LINE_FORMS)
    if written != text:
        plain = without_colours(text)
        own = [line for line in written.split("\n")[1:] if line not in plain.split("\n")]
        assert all(line.startswith("[… ") and "repeated" in line for line in own)


def test_repeats_are_counted():
    text = "start\n" + "retry in 5 s\n" * 40 + "ping\npong\n" * 20 + "\n" * 30 + "end\n"
    assert REPEATS.write(text) == (
        "start\nretry in 5 s\n[… repeated 39 times]\nping\npong\n"
        "[… these 2 lines repeated 19 times]\n\n[… repeated 29 times]\nend\n"
    )


def test_objects_with_the_same_keys_become_a_table():
    users = [{"id": i, "name": f"user {i}", "tags": ["a", {"b": 1.50}]} for i in range(20)]
    text = json.dumps(users, indent=2) + "\n"
    header, keys, *rows = write_shorter(text, COUNTER).splitlines()
    assert "keys" in header
    assert "indented by 2" in header
    assert json.loads(keys) == ["id", "name", "tags"]
    assert json.loads(rows[7]) == [7, "user 7", ["a", {"b": 1.5}]]


def test_what_lines_begin_with_stands_once():
    text = "".join(f"2026-11-29 08:04:0{i % 10} service/http/app.py: {i * 77}\n" for i in range(30))
    written = write_shorter(text, COUNTER)
    assert written.count("2026-11-29") < 10
    assert restore(written) == text


def test_numbers_and_escapes_are_kept_to_the_letter():
    text = (
        '[{"a": 1.50, "b": "\\u00e9"}, {"a": 1e5, "b": "é"}, {"a": -0, "b": 12345678901234567890}]'
    )
    written = write_shorter(text * 1, COUNTER)
    for literal in ("1.50", "\\u00e9", "1e5", "-0", "12345678901234567890"):
        assert literal in written
    assert restore(written) == text


@pytest.mark.parametrize("text", ["", "a", "few words\n", "[1, 2]", "\x1b[1m", "{" * 5000])
def test_what_gains_nothing_stays(text):
    assert write_shorter(text, COUNTER) == text


def test_a_text_that_claims_to_be_written_so_is_refused_or_bounded():
    with pytest.raises(BadInput, match="no form"):
        restore("[The whole text, written shorter: by magic.]\nx")
    with pytest.raises(BadInput, match="more than"):
        REPEATS.restore("a" * 1000 + "\n" + "[… repeated 999999999 times]\n")


def test_it_comes_before_anything_is_left_out():
    log = "".join(f"\x1b[1mstep {n}\x1b[0m\n" + "waiting for the lock\n" * 60 for n in range(6))
    found = tamis.compress_tool_output(log, ratio=0.3, tokenizer=COUNTER)
    assert not found.omissions
    assert found.tokens_out <= 0.3 * found.tokens_in
    assert restore(found.text) == without_colours(log)
    smaller = tamis.compress_tool_output(log, max_tokens=40, tokenizer=COUNTER)
    assert smaller.omissions
    assert smaller.tokens_out <= 40


def test_python_offers_it_and_refuses_a_budget_beside_it():
    text = "PASSED\n" * 400 + "1 failed\n"
    found = tamis.compress_tool_output(text, lossless=True, tokenizer="estimate")
    assert restore(found.text) == text
    assert found.tokens_out < found.tokens_in / 10
    assert (found.omissions, found.kept) == ((), ((0, len(text)),))
    with pytest.raises(BadInput, match="budget"):
        tamis.compress_tool_output(text, lossless=True, max_tokens=9)
