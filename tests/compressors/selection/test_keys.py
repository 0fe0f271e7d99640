"""A key of configuration is shown with those that it is nested in, or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import Selector
from tamis.probes.errors import BudgetTooSmall
from tamis.text.types import Passage
from tamis.text.units.segment import split_long_units, units_of
from tests.compressors.selection.select_kit import words
from tests.compressors.selection.test_nested import check_nested

NAMES = st.sampled_from(["host", "port", "tls", "queue", "log_level", "image", "env", "paths"])
SCALARS = st.sampled_from(["db.internal", "a b c", "0.5", "x" * 60]) | st.integers(0, 9999)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=5)
        | st.lists(inner, min_size=1, max_size=4)
    ),
    max_leaves=18,
)
MAPPINGS = st.dictionaries(NAMES, TREES, min_size=3, max_size=6)


@st.composite
def documents(draw: st.DrawFn) -> str:
    """One or two mappings in YAML, with comments, of which some lists stand as deep as their
    keys."""
    texts = []
    for tree in draw(st.lists(MAPPINGS, min_size=1, max_size=2)):
        lines = yaml.safe_dump(tree, width=1000, sort_keys=False).splitlines()
        for at in draw(st.lists(st.integers(0, len(lines)), max_size=3)):
            below = lines[at] if at < len(lines) else ""
            blanks = " " * (len(below) - len(below.lstrip()))
            lines.insert(at, draw(st.sampled_from([f"{blanks}# of the north", "# of all", ""])))
        texts.append("\n".join(lines) + "\n")
    return "---\n".join(texts)


def contains(whole: Any, part: Any) -> bool:
    """Whether a part has only values of the whole, each at its path; items may be left out."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(whole, list) and isinstance(part, list):
        return all(any(contains(one, item) for one in whole) for item in part)
    return bool(whole == part)


def selector_of(text: str, values: list[float], rules: Rules, budget: int) -> Selector:
    """The units of a text as a budget cuts them, with these values in turn."""
    passages = [Passage(text)]
    units = split_long_units(passages, units_of(passages), words(), budget)
    chosen = [values[u % len(values)] for u in range(len(units))]
    return Selector(passages, units, chosen, [0.0], rules, words(), calibrated=True)


def selections(text: str, values: list[float], rules: Rules) -> Iterator[tuple[int, str]]:
    """Budgets, each with what it keeps; none that keeps nothing."""
    most = words().count(text) + 2
    for budget in range(1, most, 1 + most // 12):
        with suppress(BudgetTooSmall):
            yield budget, selector_of(text, values, rules, budget).select(Budget(budget)).text


@settings(deadline=None, max_examples=60)
@given(
    documents(),
    st.lists(st.floats(0.01, 1), min_size=5, max_size=40),
    st.builds(Rules, elision=st.sampled_from([None, "\n# …\n"]), fill=st.booleans()),
)
def test_what_is_kept_of_yaml_has_only_values_of_the_whole_at_their_paths(
    text: str, values: list[float], rules: Rules
) -> None:
    whole = list(yaml.safe_load_all(text))
    for budget, kept in selections(text, values, rules):
        for part in yaml.safe_load_all(kept):
            assert any(contains(one, part) for one in whole), (budget, kept)


@settings(deadline=None, max_examples=50)
@given(documents(), st.lists(st.floats(0.01, 1), min_size=5, max_size=40), st.integers(3, 60))
def test_keys_are_nested_in_the_budget(text: str, values: list[float], budget: int) -> None:
    check_nested(selector_of(text, values, Rules(), budget), every=1 + len(text) // 60)


SETTINGS = """\
[server]
port = 8443
host = "api.internal"

[database]
host = "db.internal"
pool_size = 40
statement_timeout_ms = 15000
"""


@pytest.mark.parametrize("setting", ['host = "db.internal"', "pool_size = 40", "port = 8443"])
def test_a_setting_is_shown_with_its_section(setting: str) -> None:
    whole = selector_of(SETTINGS, [0.5], Rules(), 9)._packer.renderer
    values = [0.9 if setting in whole.visible_text(u) else 0.01 for u in range(len(whole.units))]
    kept = selector_of(SETTINGS, values, Rules(), 9).select(Budget(7)).text
    section = SETTINGS[: SETTINGS.index(setting)].rpartition("[")[2].partition("]")[0]
    assert kept.startswith(f"[{section}]\n")
    assert setting in kept
