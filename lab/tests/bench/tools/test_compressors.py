"""What each compressor shows, rows and figures; tokens are words, so no model is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.tools import (
    PLAIN,
    LabelledOutput,
    Rule,
    Shortened,
    ToolCompressor,
    tally_tools,
    tool_figures,
)
from tests.service.cli.cli_kit import word_tokenizer

LINES = [f"line {i} is of no interest here" for i in range(40)]
LINES[20] = "pump 7 runs backwards since noon"
TEXT = "\n".join(LINES) + "\n"
START = TEXT.index("pump")
SPAN = (START, TEXT.index("\n", START))


@pytest.fixture
def counter(tmp_path):
    return TextTokenizer.from_file(word_tokenizer(tmp_path))


def labelled(name: str = "1", question: str | None = "Which pump runs backwards?"):
    output = ToolOutput(TEXT, "bash", '{"command": "tail pumps.log"}')
    return LabelledOutput(name, "own", output, question, (SPAN,), (SPAN,), (Rule("lines"),))


class Fixed:
    """A compressor that shows the same text always."""

    def __init__(self, text: str, error: str | None = None):
        self.shown = Shortened(text, 2.0, lambda line: line == "[cut]", error)

    def shorten(self, labelled, limits):
        return [self.shown for _ in limits]


def test_head_and_tail_are_of_one_size_and_whole_lines(counter):
    (shown,) = PLAIN["head_tail"](counter).shorten(labelled(), [29])
    assert shown.text.splitlines() == [*LINES[:2], *LINES[-2:]]


def test_best_lines_have_the_answer_in_the_order_of_the_source(counter):
    (shown,) = PLAIN["bm25_lines"](counter).shorten(labelled(), [30])
    kept = shown.text.splitlines()
    assert LINES[20] in kept
    assert kept == sorted(kept, key=LINES.index)
    assert counter.count(shown.text) <= 30


@pytest.mark.parametrize("name", PLAIN)
def test_a_line_that_is_too_long_is_cut_and_nothing_goes_above_the_limit(counter, name):
    one = replace(labelled(), output=ToolOutput("word " * 99), gold=((0, 4),), errors=())
    for limit, shown in zip((3, 9), PLAIN[name](counter).shorten(one, [3, 9]), strict=True):
        assert counter.count(shown.text) <= limit
        assert (
            shown.text or name == "sentences"
        )  # as it does for users: a unit too large is left out


def test_tamis_keeps_whole_lines_within_each_limit_and_its_markers_are_known(counter):
    limits = [40, 80, 10**6]
    found = ToolCompressor(Lexical(), counter).shorten(labelled(), limits)
    for limit, shown in zip(limits, found, strict=True):
        assert counter.count(shown.text) <= limit
        assert LINES[20] in shown.text.split("\n")
        assert all(line in LINES or shown.is_marker(line) for line in shown.text.splitlines())
        assert shown.ms > 0
    assert found[-1].text == TEXT
    assert not found[0].is_marker(LINES[0])


def test_rows_count_what_is_lost_and_figures_add_them_up(counter):
    good, bad = TEXT[SPAN[0] : SPAN[1]] + "\n[cut]\n", "line 1\n"
    compressors = {"good": Fixed(good), "bad": Fixed(bad), "none": Fixed("", "it fell over")}
    rows = tally_tools([labelled("1"), labelled("2")], compressors, [0.5, 1.0], counter)
    assert len(rows) == 12
    first = {row.compressor: row for row in rows if (row.id, row.ratio) == ("1", 0.5)}
    assert (first["good"].limit, first["good"].tokens_in) == (139, 279)
    assert not first["good"].is_faulty
    assert first["bad"].is_faulty
    assert first["bad"].violations == {"lines": 1}
    assert first["none"].violations == {}
    assert (first["bad"].gold_reworded, first["good"].gold_reworded) == (0, 0)
    assert first["bad"].errors_lost == (TEXT[slice(*SPAN)],)

    figures = tool_figures(rows)["0.5"]
    assert (figures["reference"], figures["outputs"], figures["kinds"]) == ("good", 2, {"own": 2})
    of = figures["compressors"]
    assert of["good"]["gold_kept"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert of["bad"]["reference_ahead"]["value"] == 1.0
    assert [of[name]["gold_in_any_words"] for name in of] == [1.0, 0.0, 0.0]
    assert (of["bad"]["errors_lost"], of["bad"]["outputs_with_lost_errors"]) == (2, 2)
    assert of["bad"]["violations"] == {"lines": 2}
    assert (of["none"]["empty"], of["none"]["failed"], of["none"]["errors"]) == (2, 2, 2)
    assert of["bad"]["kinds"]["own"]["gold_kept"]["value"] == 0.0
    assert of["good"]["ms_p50"] == 2.0


def test_an_output_above_its_limit_is_counted(counter):
    (row,) = tally_tools([labelled()], {"all": Fixed(TEXT)}, [0.2], counter)
    assert row.is_faulty
    of = tool_figures([row])["0.2"]["compressors"]["all"]
    assert (of["over_limit"], of["tokens_kept"]) == (1, 1.0)
