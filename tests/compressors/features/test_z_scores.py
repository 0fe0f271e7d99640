"""Standard scores and log odds: their properties, and that the package has no other ones."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tamis.compressors
from tamis.compressors.features import words
from tamis.compressors.features.scales import (
    correlation,
    deviation,
    log_odds,
    scalar_log_odds,
    z_scores,
)
from tamis.compressors.methods import fusion

SOURCES = Path(tamis.compressors.__file__).parent
EPSILONS = (None, 1e-6, 1e-9)
VALUES = st.lists(st.floats(-1e6, 1e6), max_size=30)


@given(VALUES, st.sampled_from(EPSILONS))
def test_mean_is_0_and_deviation_1_unless_all_values_are_about_equal(values, epsilon):
    found = z_scores(values, epsilon)
    assert found.shape == (len(values),)
    assert found.dtype == np.float64
    if values and np.std(values) > 0.01:
        assert found.mean() == pytest.approx(0, abs=1e-6)
        assert found.std() == pytest.approx(1, abs=1e-3)
        assert np.all(np.diff(found[np.argsort(values, kind="stable")]) >= 0)


@pytest.mark.parametrize("epsilon", EPSILONS)
def test_equal_values_are_0_and_no_values_are_none(epsilon):
    assert z_scores([5.0, 5.0, 5.0], epsilon).tolist() == [0, 0, 0]
    assert z_scores([3], epsilon).tolist() == [0]
    assert z_scores([], epsilon).tolist() == []


def test_the_deviation_is_that_of_all_values():
    """1 2 6: mean 3, variance (4 + 1 + 9) / 3."""
    assert z_scores([1, 2, 6]).tolist() == pytest.approx([z / (14 / 3) ** 0.5 for z in (-2, -1, 3)])


def test_an_epsilon_is_added_to_the_deviation():
    assert z_scores([0.0, 2.0], 1.0).tolist() == [-0.5, 0.5]
    assert abs(z_scores([0.0, 2e-9], 1e-6)).max() < 2e-3


def test_without_an_epsilon_a_negligible_deviation_gives_0():
    assert z_scores([1.0, 1.0 + 1e-12]).tolist() == [0, 0]
    assert z_scores([1e9, 1e9 + 0.1]).tolist() == [0, 0]
    assert z_scores([1e9, 1e9 + 10]).tolist() == [-1, 1]
    assert z_scores([0.0, 1e-6]).tolist() == pytest.approx([-1, 1])


def test_correlation_is_pearsons_and_0_where_nothing_varies():
    first, second = np.array([1.0, 2, 3, 4]), np.array([1.0, 3, 2, 5])
    assert correlation(first, second) == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert correlation(first, -first) == pytest.approx(-1)
    assert correlation(first, np.ones(4)) == 0
    assert (correlation(np.array([]), np.array([])), deviation(np.array([]))) == (0, 0)
    assert deviation(first) == pytest.approx(1.25**0.5)


@pytest.mark.parametrize("margin", [1e-6, 1e-9])
def test_log_odds_are_finite_symmetric_and_clipped(margin):
    found = log_odds([0.0, 0.1, 0.5, 0.9, 1.0], margin)
    assert found.tolist() == pytest.approx([-z for z in reversed(found.tolist())])
    assert found[4] == pytest.approx(math.log((1 - margin) / margin))
    assert found[3] == pytest.approx(math.log(9))
    assert log_odds([], margin).tolist() == []


@given(st.lists(st.floats(0, 1), max_size=30))
def test_both_log_odds_are_the_same_but_for_the_last_bits(probabilities):
    found = scalar_log_odds(probabilities, 1e-9)
    assert found == pytest.approx(log_odds(probabilities, 1e-9).tolist(), rel=1e-12, abs=1e-15)


def calls(name: str) -> set[tuple[str, str]]:
    """Where the package calls a function or method of this name, and with which arguments."""
    return {
        (str(file.relative_to(SOURCES)), ", ".join(map(ast.unparse, node.args[1:])))
        for file in sorted(SOURCES.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "id", getattr(node.func, "attr", None)) == name
    }


def odds_files() -> set[str]:
    """The files that compute p / (1 - p)."""
    return {
        str(file.relative_to(SOURCES))
        for file in sorted(SOURCES.rglob("*.py"))
        if "/ (1 - " in file.read_text("utf-8")
    }


def test_these_are_the_only_z_scores_and_log_odds_of_the_package():
    """Nothing else computes a deviation, and the epsilons in use are the three known ones."""
    assert {file for file, _ in calls("std")} == {"features/scales.py"}
    assert odds_files() == {"features/scales.py"}
    assert calls("z_scores") == {
        ("features/rank_fusion.py", ""),
        ("features/second_step.py", "_EPSILON"),
        ("features/words.py", "_EPSILON"),
        ("features/scales.py", ""),
        ("methods/fusion.py", "_EPSILON"),
        ("methods/fusion.py", ""),
    }
    assert (words._EPSILON, fusion._EPSILON) == (1e-6, 1e-9)
