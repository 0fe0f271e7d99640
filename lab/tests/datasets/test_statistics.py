"""The paired bootstrap, against cases computed by hand and against the slow way."""

from __future__ import annotations

import random

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.datasets.statistics import paired_bootstrap


def test_the_difference_is_of_the_two_ratios_over_all_records():
    difference, _, _ = paired_bootstrap([1, 2, 0], [0, 1, 0], [1, 2, 1])
    assert difference == 3 / 4 - 1 / 4


def test_equal_methods_differ_by_nothing_in_every_draw():
    assert paired_bootstrap([1, 0, 1], [1, 0, 1], [1, 1, 1]) == (0, 0, 0)


def test_a_lead_that_every_record_shares_has_no_spread():
    """Records are drawn for both methods together: unpaired, these intervals would be wide."""
    a, b = [1, 2, 3, 4, 5, 6], [0, 1, 2, 3, 4, 5]
    assert paired_bootstrap(a, b, [1] * 6) == (1, 1, 1)


def test_two_records_that_disagree_span_everything():
    """The four draws give +1, 0, 0 and -1: a quarter of them lies at either end."""
    assert paired_bootstrap([1, 0], [0, 1], [1, 1]) == (0, -1, 1)


def test_a_record_with_more_gold_weighs_more():
    """4 of 4 and 0 of 1 against nothing: drawing one record twice gives 1 or 0."""
    assert paired_bootstrap([4, 0], [0, 0], [4, 1]) == (0.8, 0, 1)


def test_the_interval_is_that_of_drawing_records_one_by_one():
    chance = random.Random(3)
    den = [chance.randint(1, 4) for _ in range(60)]
    a = [chance.randint(0, d) for d in den]
    b = [chance.randint(0, d) for d in den]
    draws = []
    for _ in range(4000):
        picked = [chance.randrange(60) for _ in range(60)]
        draws.append(sum(a[i] - b[i] for i in picked) / sum(den[i] for i in picked))
    draws.sort()
    _, low, high = paired_bootstrap(a, b, den, draws=4000)
    # both ends are estimates from 4,000 draws: about .004 of spread each
    assert low == pytest.approx(draws[100], abs=0.015)
    assert high == pytest.approx(draws[3900], abs=0.015)


def test_the_seed_decides_the_draws():
    case = ([1, 0, 1, 0, 2], [0, 1, 1, 0, 0], [1, 1, 1, 1, 2])
    assert paired_bootstrap(*case, seed=1) == paired_bootstrap(*case, seed=1)
    assert paired_bootstrap(*case, draws=7, seed=1) != paired_bootstrap(*case, draws=7, seed=2)


@pytest.mark.parametrize(
    ("case", "says"),
    [
        (([], [], []), "at least one"),
        (([1, 2], [1], [1, 2]), r"\(2,\), \(1,\)"),
        (([1, 0], [1, 0], [1, 0]), "1 of 2 denominators"),
    ],
)
def test_figures_that_make_no_pairs_are_refused_with_their_numbers(case, says):
    with pytest.raises(BadInput, match=says):
        paired_bootstrap(*case)


def test_no_draws_are_refused():
    with pytest.raises(BadInput, match="draws is 0"):
        paired_bootstrap([1], [0], [1], draws=0)
