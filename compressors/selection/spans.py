"""Spans of a text, half-open in code points: their union, and what lies in it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from operator import itemgetter

Span = tuple[int, int]
_STOP = itemgetter(1)


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """The union, ascending and disjoint: spans that touch become one, empty ones are left out."""
    merged: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def overlaps(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether `[start:stop]` shares a character with one of the spans, ascending and disjoint."""
    found = _next_span(spans, start)
    return found is not None and found[0] < stop


def contains(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether `[start:stop]` lies in one of the spans, ascending and disjoint."""
    found = _next_span(spans, start)
    return found is not None and found[0] <= start and stop <= found[1]


def _next_span(spans: Sequence[Span], at: int) -> Span | None:
    """The first span that ends after a place."""
    found = bisect_right(spans, at, key=_STOP)
    return spans[found] if found < len(spans) else None
