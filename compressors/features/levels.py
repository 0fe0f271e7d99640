"""How units lie in their passages, and one score of each unit at every level of its text.

Evidence is often a run of lines: the steps of a procedure share no word with the question, but
stand below a heading or after a sentence that does. A level (neighbours, paragraph, section,
lead-in, heading, passage) says how well what surrounds a unit scores, never how long the unit is:
the score of a short step rises with its section's and does not fall because it is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tamis.compressors.features.z_scores import correlation
from tamis.probes.text import Passage, Unit

Indices = NDArray[np.int64]
Floats = NDArray[np.float64]

LISTED_KINDS = frozenset({"list_item", "code", "table_row", "json", "entry"})
"""Units that stand on a line of their own, below whatever introduces them."""
_NONE = -1


@dataclass(frozen=True, slots=True)
class Structure:
    """Where each of U units stands; all arrays are `[U]`.

    Attributes:
        passage: the index of its passage, ascending.
        paragraph: the number of its paragraph: units with no line break between them, and a number
            of its own for each listed unit. section: the number of its section, from one heading
            to the next.
        heading: the unit that is the heading above it, else -1. lead_in: the unit ending in a colon
            that introduces it, else -1.
        is_listed: whether it is a list item, a row, an entry, a line of code or a piece of JSON.
    """

    passage: Indices
    paragraph: Indices
    section: Indices
    heading: Indices
    lead_in: Indices
    is_listed: NDArray[np.bool_]


def unit_structure(passages: Sequence[Passage], units: Sequence[Unit]) -> Structure:
    """The structure of units, which are in text order, passage by passage."""
    rows = []
    paragraph = section = _NONE
    heading = lead_in = _NONE
    for u, unit in enumerate(units):
        text = passages[unit.passage].text
        before = units[u - 1] if u and units[u - 1].passage == unit.passage else None
        gap = text[before.visible[1] : unit.visible[0]] if before else ""
        visible = text[slice(*unit.visible)].rstrip()
        is_listed = unit.kind in LISTED_KINDS
        introduces = visible.endswith((":", "："))
        if before is None:
            heading = lead_in = _NONE
        paragraph += before is None or is_listed or "\n" in gap
        section += before is None or unit.kind == "heading"
        if not is_listed and (introduces or "\n\n" in gap):
            lead_in = _NONE
        rows.append((unit.passage, paragraph, section, heading, lead_in, is_listed))
        if unit.kind == "heading":
            heading = u
        if introduces:
            lead_in = u
    passage, paragraphs, sections, headings, lead_ins, listed = (
        np.array(rows, dtype=np.int64).reshape(len(rows), 6).T
    )
    return Structure(passage, paragraphs, sections, headings, lead_ins, listed.astype(bool))


LEVELS = (
    "near_2",
    "near_4",
    "near_8",
    "paragraph",
    "section",
    "lead_in",
    "heading",
    "passage_top_3",
)
"""Means over the units at most 2, 4 or 8 away, over the paragraph and the section; the scores of
the lead-in and of the heading, or `near_2` where there is none; the mean of the passage's best
three."""
_TOP_UNITS = 3
_MIN_PAIRS = 4


def level_features(structure: Structure, scores: Floats) -> Floats:
    """A score at each level: `[U, len(LEVELS)]`.

    Args:
        scores: one a unit, `[U]`.
    """
    near = {reach: _mean_nearby(scores, structure.passage, reach) for reach in (2, 4, 8)}
    return np.stack(
        [
            *near.values(),
            group_mean(scores, structure.paragraph),
            group_mean(scores, structure.section),
            _score_of(structure.lead_in, scores, near[2]),
            _score_of(structure.heading, scores, near[2]),
            _mean_of_best(scores, structure.passage),
        ],
        1,
    )


def group_mean(scores: Floats, group: Indices) -> Floats:
    """For each unit the mean score of its group, `[U]`."""
    sizes = np.bincount(group)
    sums = np.bincount(group, scores)
    return np.asarray((sums / np.maximum(sizes, 1))[group])


def neighbour_correlation(scores: Floats, passage: Indices) -> float:
    """How alike units score that follow each other in a passage, -1 to 1; 0 for a few units."""
    together = passage[1:] == passage[:-1]
    if together.sum() < _MIN_PAIRS:
        return 0.0
    return correlation(scores[:-1][together], scores[1:][together])


def _mean_nearby(scores: Floats, passage: Indices, reach: int) -> Floats:
    """The mean over the units of the passage at most `reach` away, the unit itself included."""
    total = np.concatenate([[0.0], np.cumsum(scores)])
    place = np.arange(len(scores))
    start = np.maximum(place - reach, np.searchsorted(passage, passage, "left"))
    stop = np.minimum(place + reach + 1, np.searchsorted(passage, passage, "right"))
    return np.asarray((total[stop] - total[start]) / (stop - start))


def _score_of(index: Indices, scores: Floats, otherwise: Floats) -> Floats:
    return np.where(index >= 0, scores[index], otherwise)


def _mean_of_best(scores: Floats, passage: Indices) -> Floats:
    """For each unit the mean of its passage's best three scores."""
    order = np.lexsort((-scores, passage))
    rank = np.empty(len(scores), dtype=np.int64)
    rank[order] = np.arange(len(scores))
    is_top = rank - np.searchsorted(passage, passage, "left") < _TOP_UNITS
    sizes = np.bincount(passage[is_top], minlength=passage.max() + 1)
    sums = np.bincount(passage[is_top], scores[is_top], minlength=passage.max() + 1)
    return np.asarray((sums / np.maximum(sizes, 1))[passage])
