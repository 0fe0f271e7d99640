"""Segmentation takes time in proportion to the text, whatever the text."""

from __future__ import annotations

import itertools
import time

import pytest

from tamis.text.units.segment import segment

SLOW = {
    "prose": "The cat sat on the mat, and looked around. ",
    "short lines": "Abc 1\n",
    "blank lines": "ab c\n\n",
    "cjk": "你好。",
    "backticks": "`",
    "fences": "```\n",
    "brackets": "[{(",
    "open tags": "<p",
    "rows": "<tr>",
    "notes": ".[a]",
    "closing": ".”",
    "apostrophes": "' ",
    "json": '{"a": [',
    "accents": "\u0301",
    "blanks": "x" + " " * 50,
    "fenced statements": "x = f(1)\n",
    "keys": "a:\n  b: 1\n",
    "long key": "  b: 1\n",
    "pairs": "a = 1\n",
    "sections": "[a]\nb = 1\nc = 2\n",
    "chat": "[09:06] Anna: hi. Yes\n",
    "roles": "USER: a\nBOT: b\n",
    "values": "a,b,c\n",
    "open quotes": 'a,"b,c\n',
    "comments": "# a\n",
    "definitions": "def f(x):\n    return (x\n",
    "braces": "}\n",
    "open documents": "x\n{\n",
    "documents": "x\n{\n}\n",
    "trees": "It is.\n\na b:\n  c: 1\n",
    "one tree": "a b:\n  c: 1\n",
    "frames": "+--+--+\n",
    "rows of frames": "+--+--+\n| a | b |\n",
}

FENCED = {SLOW["fenced statements"], SLOW["long key"]}


def seconds(text: str, runs: int = 3) -> float:
    """The best of some runs, in processor time: what else runs on the machine does not count."""
    best = float("inf")
    for _ in range(runs):
        start = time.process_time()
        segment(text)
        best = min(best, time.process_time() - start)
    return best


def check_growth(once: str, four_times: str) -> None:
    """Asserts that the longer text does not take nine times as long, in one of twelve pairs."""
    shorter = longer = float("inf")
    for _ in range(12):
        shorter, longer = min(shorter, seconds(once, 1)), min(longer, seconds(four_times, 1))
        if longer <= 9 * shorter + 0.01:
            return
    assert longer <= 9 * shorter + 0.01


@pytest.mark.parametrize("unit", SLOW.values(), ids=SLOW.keys())
def test_four_times_the_text_takes_about_four_times_the_time(unit: str) -> None:
    """9 rather than 4, and a hundredth of a second, leave room for noise; quadratic is 16."""
    once = ("```\n" if unit in FENCED else "") + unit * (30_000 // len(unit))
    check_growth(once, once * 4)


def deep(lines: int) -> str:
    """A fence in which every line is indented deeper than the last, and then many that are not."""
    return "```\n" + "".join(" " * n + "if x:\n" for n in range(300)) + "}\n" * lines + "```"


def test_deep_nesting_does_not_read_the_lines_below_it_once_for_each_level() -> None:
    check_growth(deep(10_000), deep(40_000))
    assert seconds(deep(40_000)) < 5  # of which other jobs in the caches may cost half; it took 30


def test_fences_that_are_never_closed_do_not_search_the_rest_again_and_again() -> None:
    """A little slower than the short ones alone; five times if each long one passed all."""
    long = "".join("`" * size + "\n" for size in range(1_200, 3, -1))
    short = "```\n" * 30_000
    assert seconds(long + short) < 2 * seconds(short) + 0.05


def test_prose_is_read_faster_than_a_million_characters_in_three_seconds() -> None:
    """It is about half a second on one core; six times that is a defect, not a slow machine."""
    sentences = itertools.cycle(
        ["The cat sat on the mat.", "It cost $3.50, said Dr. No.", "“Go!” he said."]
    )
    assert seconds(" ".join(itertools.islice(sentences, 10_000))) < 0.7
