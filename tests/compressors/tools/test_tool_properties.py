"""What holds of every tool output, whatever it is: spans, markers, counts, budgets, JSON."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.packing import Packer
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.tokens import estimating_tokenizer
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import LAST_PROTECTED
from tests.compressors.tools.tool_kit import (
    COUNTER,
    numbered_marker,
    prepared,
    shorten,
    shown_spans,
    spans_in_order,
)

QUIET = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
PHRASES = (
    "E   assert 1 == 2",
    "____ test_a ____",
    "=== FAILURES ===",
    "=== short test summary info ===",
    "FAILED a.py::test_a - assert 1 == 2",
    "=== 1 failed, 2 passed in 0.1s ===",
    "a.py::test_b PASSED",
    "Traceback (most recent call last):",
    '  File "a.py", line 3, in f',
    "    g()",
    "ValueError: bad",
    "\tat a.B.c(B.java:3)",
    "Caused by: java.lang.X: y",
    "diff --git a/a b/a",
    "--- a/a",
    "+++ b/a",
    "@@ -1,2 +1,2 @@",
    "-old",
    "+new",
    " same",
    "commit 0123456789abcdef",
    "src/a.py:12: hit",
    "./a:",
    "b.py",
    "NAME  READY  STATUS",
    "web-1  1/1  Running",
    " a | b ",
    "---+---",
    "error[E0308]: mismatched types",
    " --> src/a.rs:3:5",
    "a.c:3:5: error: no",
    "   3 | int a",
    "[ERROR] no",
    "npm error code E404",
    "#5 [2/3] RUN x",
    "#5 ERROR: y",
    "2026-01-01 10:00:00 ERROR lost",
    "2026-01-01 10:00:01 INFO found",
    '{"a": 1, "error": "x"}',
    "[1, 2,",
    "<html><body><p>a</p>",
    "",
    "exit status 1",
    "\x1b[31mFAILED\x1b[0m",
    "10%\r20%\r30%",
)
TOOL_TEXTS = st.lists(st.one_of(st.sampled_from(PHRASES), st.text(max_size=30)), max_size=60).map(
    "\n".join
)
TEXTS = st.one_of(st.text(), TOOL_TEXTS)
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**6), 10**6), st.text(max_size=40))
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=12), st.dictionaries(st.text(max_size=12), inner, max_size=12)
    ),
    max_leaves=30,
)
JSON_CONTAINERS = st.one_of(
    st.lists(JSON_VALUES, min_size=1, max_size=30),
    st.dictionaries(st.text(max_size=8), JSON_VALUES, min_size=1, max_size=12),
)
SHARES = st.floats(0.02, 0.98)


@QUIET
@given(TEXTS, SHARES, st.one_of(st.none(), st.text(max_size=20)))
def test_kept_spans_and_omissions_partition_the_source_and_make_the_text(text, share, question):
    found = prepared(text, question)
    limit = int(share * found.tokens_in[0])
    [result] = found.select(found.score(Lexical()), [limit], numbered_marker)
    spans = spans_in_order(result)
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert list(result.kept) == sorted(result.kept)
    bare = re.sub(r"<\d+:\d+>\n?", "", result.text) if result.omissions else result.text
    if "<" not in text and result.format not in ("json", "jsonl", "notebook"):
        assert bare.replace("\n", "") == "".join(shown_spans(text, result)).replace("\n", "")


@QUIET
@given(TEXTS, SHARES)
def test_tokens_are_those_of_the_texts_and_above_the_limit_with_a_warning_alone(text, share):
    tokens = COUNTER.count(text)
    limit = int(share * tokens)
    result = shorten(text, limit)
    assert result.tokens_in == tokens
    assert result.tokens_out == COUNTER.count(result.text)
    assert result.tokens_out <= limit or result.warnings
    for gap in result.omissions:
        assert gap.tokens == COUNTER.count(text[gap.start : gap.stop])


@QUIET
@given(TEXTS, st.integers(0, 3))
def test_what_fits_is_returned_byte_for_byte(text, more):
    result = shorten(text, COUNTER.count(text) + more)
    assert result.text == text
    assert result.omissions == ()
    assert "".join(shown_spans(text, result)) == text


@QUIET
@given(TOOL_TEXTS, SHARES)
def test_no_line_is_broken(text, share):
    parsed = parse_tool_output(text)
    if parsed.format in ("json", "notebook", "html"):
        return
    for start, stop in shorten(text, int(share * COUNTER.count(text))).kept:
        assert start == 0 or text[start - 1] == "\n"
        assert stop == len(text) or text[stop - 1] == "\n"


@QUIET
@given(TOOL_TEXTS, st.lists(SHARES, min_size=2, max_size=2))
def test_a_greater_budget_loses_no_protected_part(text, shares):
    parsed = parse_tool_output(text)
    small, large = (shorten(text, int(s * COUNTER.count(text))) for s in sorted(shares))
    for part in () if small.warnings else parsed.parts:
        if part.level <= LAST_PROTECTED and _is_shown(part, small.kept):
            assert _is_shown(part, large.kept)


def test_no_protected_part_is_lost_from_one_limit_to_the_next():
    """Messages of very different lengths: a short one must not take the place of a long one."""
    rows = [f"plain line {i}" for i in range(60)]
    for i, size in ((5, 40), (15, 2), (25, 25), (35, 1), (45, 12), (55, 3)):
        rows[i] = f"ValueError: number {i} " + "because of a reason " * size
    text = "\n".join(rows) + "\n"
    parts = [p for p in parse_tool_output(text).parts if p.level <= LAST_PROTECTED]
    assert len(parts) == 6
    found, before = prepared(text), set()
    for limit in range(0, COUNTER.count(text), 7):
        [result] = found.select([0.0] * 60, [limit], default_marker)
        shown = {part.start for part in parts if _is_shown(part, result.kept)}
        if not result.warnings:  # with room for a part and its markers
            assert before <= shown
            before = shown
    assert len(before) == 6


def _is_shown(part, kept):
    return any(start <= part.start and part.stop <= stop for start, stop in kept)


@QUIET
@given(TOOL_TEXTS, SHARES)
def test_the_headers_of_a_kept_part_are_kept(text, share):
    parsed = parse_tool_output(text)
    kept = shorten(text, int(share * COUNTER.count(text))).kept
    for part in parsed.parts:
        if _is_shown(part, kept):
            assert all(_is_shown(parsed.parts[j], kept) for j in part.needs)


@QUIET
@given(TEXTS)
def test_something_is_shown_whenever_the_budget_admits_a_line(text):
    lines = [line for line in re.findall(r"[^\n]*\n|[^\n]+", text) if line.strip()]
    if not lines or parse_tool_output(text).format != "text":
        return
    result = shorten(text, max(map(COUNTER.count, lines)))
    assert result.text


@QUIET
@given(JSON_CONTAINERS, st.sampled_from([None, 1, 2, "\t"]), st.booleans(), SHARES)
def test_json_stays_json_and_only_loses_what_markers_stand_for(value, indent, is_ascii, share):
    text = json.dumps(value, indent=indent, ensure_ascii=is_ascii)
    result = shorten(text, max(12, int(share * COUNTER.count(text))))
    if result.text:
        _check_part(json.loads(result.text), value)


def _check_part(shown, source):
    """Every shown value is the source's; markers are strings in brackets."""
    if isinstance(shown, dict) and isinstance(source, dict):
        for key, value in shown.items():
            if key in source and not _is_marker(value):
                _check_part(value, source[key])
            else:
                assert _is_marker(value)
    elif isinstance(shown, list) and isinstance(source, list):
        left = iter(source)
        for value in shown:
            assert _is_marker(value) or any(_is_part(value, other) for other in left)
    elif isinstance(shown, str) and "omitted" in shown:
        assert isinstance(source, str)
    else:
        assert shown == source


def _is_part(shown, source):
    try:
        _check_part(shown, source)
    except AssertionError:
        return False
    return True


def _is_marker(value):
    return isinstance(value, str) and value.startswith("[… ") and value.endswith("]")


@QUIET
@given(st.lists(st.dictionaries(st.text(max_size=8), SCALARS), min_size=3, max_size=20), SHARES)
def test_json_lines_stay_json_lines(values, share):
    text = "".join(json.dumps(value) + "\n" for value in values)
    result = shorten(text, int(share * COUNTER.count(text)))
    for line in result.text.splitlines():
        json.loads(line)


@QUIET
@given(TOOL_TEXTS, SHARES)
def test_a_log_inside_a_json_string_stays_a_json_string(text, share):
    wrapped = json.dumps({"stdout": text * 5, "exit_code": 1})
    result = shorten(wrapped, max(20, int(share * COUNTER.count(wrapped))))
    assert isinstance(json.loads(result.text), dict)


@pytest.mark.parametrize("text", ["", "\n", " \n \n", "\r", "\x00", "\ud800\n" * 40])
def test_texts_with_nothing_to_choose_from_are_served(text):
    for limit in (0, 1, 5, 1000):
        result = shorten(text, limit)
        assert result.tokens_out <= limit or result.warnings


def test_a_marker_alone_comes_with_a_warning():
    alone = shorten("word " * 3000, 500)
    assert (alone.kept, len(alone.omissions)) == ((), 1)
    assert alone.text == default_marker(alone.omissions[0])
    assert alone.warnings == ("500 tokens admit no line of this output: only a marker",)


def test_a_marker_of_several_lines_is_written_on_one():
    found = prepared("a line of words\n" * 50)
    [result] = found.select([0.0] * 50, [60], lambda gap: "left\nout\r\n here")
    assert "left out here\n" in result.text
    assert default_marker(result.omissions[0]).startswith("[… ")


def test_lines_that_cost_more_together_are_dropped_in_few_attempts_as_if_one_by_one(monkeypatch):
    """Line ends of Windows: every attempt reads the whole text, and thousands took minutes."""
    at = "2026-11-26T10:{:02}:{:02} INFO  worker {} handled request /a/{} in {} ms\r\n"
    lines = [at.format(i // 60, i % 60, i % 7, i, i * 7919 % 90) for i in range(1500)]
    lines.insert(850, "2026-11-26T10:14:10 ERROR worker 3 failed\r\n")
    text = "".join(lines)
    outputs = prepare_tool_outputs([ToolOutput(text)], "why?", estimating_tokenizer())
    values, limits = outputs.score(Lexical()), [outputs.tokens_in[0] // 2]
    attempts, render = [], Packer._render
    monkeypatch.setattr(Packer, "_render", lambda *given: attempts.append(1) or render(*given))
    fast, few = outputs.select(values, limits, default_marker), len(attempts)
    monkeypatch.setattr(Packer, "_drop_last", lambda _, taken, *__: taken[:-1])
    assert outputs.select(values, limits, default_marker) == fast
    assert len(attempts) - few > 2 * few
