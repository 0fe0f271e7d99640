"""Pairs of query and text, read query by query and answered in the order they came in."""

from __future__ import annotations

from collections.abc import Sequence

QueryGroups = dict[str, tuple[list[int], list[str]]]
"""For each query the places of its pairs, and their texts."""


def group_by_query(pairs: Sequence[tuple[str, str]]) -> QueryGroups:
    """The pairs of each query, in the order in which queries first occur."""
    rows: QueryGroups = {}
    for place, (query, text) in enumerate(pairs):
        places, texts = rows.setdefault(query, ([], []))
        places.append(place)
        texts.append(text)
    return rows


def scores_in_order(rows: QueryGroups, found: Sequence[Sequence[float]]) -> list[float]:
    """Scores of each query as one list, in the order of the pairs; a text without words has 0."""
    scores = {
        place: score if text.strip() else 0.0
        for (places, texts), values in zip(rows.values(), found, strict=True)
        for place, text, score in zip(places, texts, values, strict=True)
    }
    return [scores[place] for place in range(len(scores))]
