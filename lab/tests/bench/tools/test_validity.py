"""What counts as kept, and which rules a shortened output breaks, on cases made by hand."""

from __future__ import annotations

import json
import re

import pytest

from tamis.compressors.tools.types import ToolOutput
from tamis_lab.bench.tools import (
    LabelledOutput,
    Rule,
    count_reworded,
    count_violations,
    headed_lines,
    lost_labels,
)

LINES, JSON = Rule("lines"), Rule("json")
HUNKS = Rule("hunks", (re.compile(r"^diff "), re.compile(r"^@@ ")))
DIFF = "diff a\n@@ 1\n-one\n+two\n@@ 2\n+three\ndiff b\n@@ 1\n+two\n+four\n"
ROWS = [{"id": 1, "tags": ["x", "y"]}, {"id": 2, "tags": []}, {"id": True, "tags": None}]


def labelled(text: str, *rules: Rule, gold: tuple[tuple[int, int], ...] = ()) -> LabelledOutput:
    return LabelledOutput("1", "own", ToolOutput(text), None, gold, (), rules)


def is_marker(line: str) -> bool:
    return line.startswith("[… ")


def violations(text: str, rule: Rule, shown: str) -> dict[str, int]:
    return count_violations(labelled(text, rule), shown, is_marker)


def test_a_line_is_kept_only_whole_and_blanks_at_its_ends_do_not_matter():
    row = labelled("one two\n  three\n", LINES, gold=((0, 7), (8, 15)))
    assert lost_labels(row, "x\none two\nthree", row.gold) == []
    assert lost_labels(row, "one\ntwo three", row.gold) == ["one two", "  three"]
    assert lost_labels(row, "one two three", row.gold) == ["one two", "  three"]


def test_a_piece_of_a_line_is_kept_where_it_stands_anywhere():
    row = labelled("<p>one</p><p>two</p>\n", gold=((10, 20),))
    assert lost_labels(row, "<p>two</p>", row.gold) == []
    assert lost_labels(row, "two", row.gold) == ["<p>two</p>"]


def test_a_json_value_is_kept_however_it_is_written():
    text = json.dumps(ROWS, indent=2)
    start = text.index("{")
    stop = text.index("}") + 1
    row = labelled(text, JSON, gold=((start, stop),))
    assert lost_labels(row, '{"rows":[{"tags":["x","y"],"id":1}]}', row.gold) == []
    assert lost_labels(row, '[{"id":1}]', row.gold) == [text[start:stop]]
    assert lost_labels(row, "[" + text[start:stop], row.gold) == []
    assert lost_labels(row, '[{"id":1', row.gold) == [text[start:stop]]


def test_a_text_in_other_words_has_all_of_its_words_and_half_of_them_in_one_line():
    text = "src/a.py:15: total = pump"
    assert count_reworded([text], "src/a.py\n15: total = pump\n") == 1
    assert count_reworded([text], "src/a.py\n15: total =\n") == 0
    assert count_reworded([text], "src\na\npy\n15\ntotal\npump\n") == 0
    assert count_reworded([], "anything") == 0


def test_lines_are_whole_or_markers():
    text = "first line\nsecond line\n"
    assert violations(text, LINES, "first line\n[… line 2 omitted]\n") == {"lines": 0}
    assert violations(text, LINES, "first\n\nsecond line") == {"lines": 1}
    assert violations(text, LINES, "first linesecond line\n") == {"lines": 1}
    assert violations(text, LINES, "... line 2 omitted") == {"lines": 1}


@pytest.mark.parametrize(
    ("shown", "misplaced"),
    [
        (DIFF, 0),
        ("diff b\n@@ 1\n+four\n", 0),
        ("diff a\n@@ 2\n+three\n[… lines]\ndiff b\n@@ 1\n+four", 0),
        ("diff a\n@@ 1\n+four\n", 1),  # another file's
        ("diff a\n@@ 1\n+three\n", 1),  # another hunk's
        ("+three\n", 1),  # nobody's
        ("diff a\n+two\n", 1),
        ("@@ 2\n+three\n", 2),  # the hunk of no file
        ("a summary\ndiff a\n@@ 1\n+two\n", 0),  # not a line of the source
    ],
)
def test_lines_stay_under_their_headers(shown, misplaced):
    assert violations(DIFF, HUNKS, shown) == {"hunks": misplaced}


def test_a_header_ends_the_headers_within_it():
    found = dict((line, path) for path, line in headed_lines(DIFF, HUNKS.headers))
    assert found["@@ 1"] == ("diff b", "")
    assert found["+three"] == ("diff a", "@@ 2")
    assert found["+four"] == ("diff b", "@@ 1")


@pytest.mark.parametrize(
    ("shown", "counts"),
    [
        (ROWS, (0, 0)),
        ([], (0, 0)),
        (["[… elements 1-2 omitted]", ROWS[2]], (0, 0)),
        ([{"id": 1, "…": "[… members 2-2 omitted]"}], (0, 0)),
        ([{"id": 1, "tags": ["y", "[… element 2 omitted]"]}], (0, 0)),
        ([{"id": 1, "tags": ["y", "x"]}], (0, 1)),  # another order
        ([{"id": 3}], (0, 1)),
        ([{"id": 1, "note": "made up"}], (0, 1)),
        (["three rows were left out"], (0, 1)),
        ([ROWS[2], ROWS[0]], (0, 1)),
        ([{"id": 1, "tags": None}], (0, 1)),
    ],
)
def test_json_parses_and_holds_nothing_but_values_of_its_source_and_markers(shown, counts):
    text = json.dumps(ROWS)
    assert violations(text, JSON, json.dumps(shown)) == {"json": counts[0], "altered": counts[1]}


def test_json_that_does_not_parse_is_counted_and_true_is_not_one():
    text = json.dumps(ROWS)
    assert violations(text, JSON, text[:-1]) == {"json": 1, "altered": 0}
    assert violations(text, JSON, '[{"id": 1, "tags": null}]')["altered"] == 1


def test_every_line_of_json_lines_parses_or_is_a_marker():
    rows = Rule("json_lines")
    assert violations('{"a": 1}\n{"a": 2}\n', rows, '{"a": 1}\n[… line 2]\n') == {"json_lines": 0}
    assert violations('{"a": 1}\n{"a": 2}\n', rows, '{"a": 1}\n{"a": \n') == {"json_lines": 1}
