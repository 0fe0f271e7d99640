"""Structure and levels: what surrounds a unit, computed by hand, and what they never depend on."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.features.second_step import (
    level_features,
    neighbour_correlation,
    unit_structure,
)
from tamis.text.types import Passage
from tamis.text.units.segment import units_of

LEVELS = (
    *("near_2", "near_4", "near_8", "paragraph"),
    *("section", "lead_in", "heading", "passage_top_3"),
)
MANUAL = """# Keys

Rotate them every year. To rotate them:

1. Stop the service.
2. Run rotate.

Nothing else is needed.

## Notes

See the log.
"""


def manual():
    passages = [Passage(MANUAL), Passage("Rooms are painted. Doors too.")]
    units = units_of(passages)
    return passages, units, unit_structure(passages, units)


def test_the_structure_of_a_page_is_what_a_reader_sees():
    passages, units, found = manual()
    texts = [passages[u.passage].text[slice(*u.visible)] for u in units]
    assert texts == [
        *("# Keys", "Rotate them every year.", "To rotate them:"),
        *("1. Stop the service.", "2. Run rotate.", "Nothing else is needed."),
        *("## Notes", "See the log.", "Rooms are painted.", "Doors too."),
    ]
    assert found.passage.tolist() == [0] * 8 + [1] * 2
    assert found.paragraph.tolist() == [0, 1, 1, 2, 3, 4, 5, 6, 7, 7]
    assert found.section.tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 2, 2]
    assert found.heading.tolist() == [-1, 0, 0, 0, 0, 0, 0, 6, -1, -1]
    assert found.lead_in.tolist() == [-1, -1, -1, 2, 2, -1, -1, -1, -1, -1]
    assert found.is_listed.tolist() == [False] * 3 + [True] * 2 + [False] * 5


def test_levels_computed_by_hand():
    _, _, structure = manual()
    scores = np.arange(10.0)
    found = dict(zip(LEVELS, level_features(structure, scores).T, strict=True))
    assert found["near_2"].tolist() == [1, 1.5, 2, 3, 4, 5, 5.5, 6, 8.5, 8.5]
    assert found["near_8"].tolist() == [3.5] * 8 + [8.5] * 2
    assert found["paragraph"].tolist() == [0, 1.5, 1.5, 3, 4, 5, 6, 7, 8.5, 8.5]
    assert found["section"].tolist() == [2.5] * 6 + [6.5] * 2 + [8.5] * 2
    assert found["passage_top_3"].tolist() == [6] * 8 + [8.5] * 2
    # the steps have the score of the sentence that introduces them, others that of what is near
    assert found["lead_in"].tolist() == [1, 1.5, 2, 2, 2, 5, 5.5, 6, 8.5, 8.5]
    assert found["heading"].tolist() == [1, 0, 0, 0, 0, 0, 0, 6, 8.5, 8.5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text("ab.:\n -#1", max_size=60), min_size=1, max_size=4),
    st.integers(0, 2**32 - 1),
)
def test_levels_are_means_and_follow_a_shift_of_all_scores(texts, seed):
    passages = [Passage(text) for text in texts]
    units = units_of(passages)
    structure = unit_structure(passages, units)
    if not units:
        assert len(structure.passage) == 0
        return
    scores = np.random.default_rng(seed).normal(size=len(units))
    found = level_features(structure, scores)
    assert found.shape == (len(units), len(LEVELS))
    assert (found <= scores.max() + 1e-9).all()
    assert (found >= scores.min() - 1e-9).all()
    np.testing.assert_allclose(level_features(structure, scores + 5), found + 5, atol=1e-9)


def test_neighbours_that_score_alike_are_told_from_those_that_do_not():
    passage = np.zeros(20, dtype=np.int64)
    smooth = np.sin(np.arange(20) / 3)
    jagged = np.array([1.0, -1.0] * 10)
    assert neighbour_correlation(smooth, passage) > 0.8
    assert neighbour_correlation(jagged, passage) == pytest.approx(-1)
    assert neighbour_correlation(smooth, np.arange(20)) == 0
