"""Pairs of query and text: grouped by query to be read, scores returned in input order."""

from __future__ import annotations

from collections.abc import Sequence

QueryGroups = dict[str, tuple[list[int], list[str]]]
"""For each query the indices of its pairs, and their texts."""


def group_by_query(pairs: Sequence[tuple[str, str]]) -> QueryGroups:
    """The pairs of each query, in the order in which queries first occur."""
    groups: QueryGroups = {}
    for index, (query, text) in enumerate(pairs):
        indices, texts = groups.setdefault(query, ([], []))
        indices.append(index)
        texts.append(text)
    return groups


def scores_in_order(groups: QueryGroups, found: Sequence[Sequence[float]]) -> list[float]:
    """The scores of all queries as one list, in the order of the pairs; a blank text has 0."""
    scores = {
        index: score if text.strip() else 0.0
        for (indices, texts), values in zip(groups.values(), found, strict=True)
        for index, text, score in zip(indices, texts, values, strict=True)
    }
    return [scores[index] for index in range(len(scores))]
