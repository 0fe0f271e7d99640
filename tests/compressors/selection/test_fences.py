"""What is kept of fenced code has both its fences or none."""

from __future__ import annotations

import re
from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import Selector
from tamis.probes.errors import BudgetTooSmall
from tamis.text.types import Passage
from tamis.text.units.segment import split_long_units, units_of
from tests.compressors.selection.select_kit import words
from tests.compressors.selection.test_nested import check_nested

CODE = st.sampled_from(
    [
        "def f(x):\n    return x + 1\n",
        "import requests\n\nr = requests.get(url)\n",
        "class Door:\n    def open(self):\n        self.is_open = True\n\n    def close(self):\n"
        "        self.is_open = False\n",
        "server:\n  port: 8443\n  tls:\n    cert: /etc/a.pem\ndatabase:\n  host: db.internal\n",
        "\n",
        "run --all\n",
    ]
)
PROSE = st.sampled_from(
    ["# Limits", "A key is asked for. It lasts a year.", "It is started so:", "- one\n- two"]
)


@st.composite
def fenced_blocks(draw: st.DrawFn) -> str:
    """A block of code, in a quotation or not."""
    fence = draw(st.sampled_from(["```", "````", "~~~~"]))
    inner = "".join(
        draw(st.lists(CODE, min_size=1, max_size=12).filter(lambda own: {*own} != {"\n"}))
    )
    if fence == "~~~~":  # below a blank line, or above one, it parts scenes
        inner = inner.strip("\n") + "\n"
    block = f"{fence}{draw(st.sampled_from(['', 'python', 'yaml']))}\n{inner}{fence}"
    quote = draw(st.sampled_from(["", "", "> "]))
    return "\n".join(f"{quote}{line}" for line in block.splitlines())


DOCUMENTS = st.lists(PROSE | fenced_blocks(), min_size=2, max_size=5).map("\n\n".join)
VALUES = st.lists(st.floats(0.01, 1), min_size=5, max_size=40)


def open_fence(text: str) -> str:
    """The fence that is open at the end of a text, as a reader of Markdown sees it."""
    fence = ""
    for line in text.splitlines():
        found = re.match(r"[> ]*(`{3,}|~{3,})(.*)", line)
        if found and not fence:
            fence = found[1]
        elif found and found[1].startswith(fence) and not found[2].strip():
            fence = ""
    return fence


def selector_of(text: str, values: list[float], rules: Rules, budget: int) -> Selector:
    """The units of a text as a budget cuts them, with these values in turn."""
    passages = [Passage(text)]
    units = split_long_units(passages, units_of(passages), words(), budget)
    chosen = [values[u % len(values)] for u in range(len(units))]
    return Selector(passages, units, chosen, [0.0], rules, words(), calibrated=True)


@settings(deadline=None, max_examples=60)
@given(DOCUMENTS, VALUES, st.builds(Rules, fill=st.booleans(), context_window=st.integers(0, 1)))
def test_no_fence_is_open_at_the_end_of_what_is_kept(
    text: str, values: list[float], rules: Rules
) -> None:
    assert not open_fence(text)
    most = words().count(text) + 2
    for budget in range(1, most, 1 + most // 12):
        with suppress(BudgetTooSmall):
            kept = selector_of(text, values, rules, budget).select(Budget(budget)).text
            assert not open_fence(kept), (budget, kept)


@settings(deadline=None, max_examples=40)
@given(DOCUMENTS, VALUES, st.integers(3, 60))
def test_code_between_fences_is_nested_in_the_budget(
    text: str, values: list[float], budget: int
) -> None:
    check_nested(selector_of(text, values, Rules(), budget), every=1 + len(text) // 60)
