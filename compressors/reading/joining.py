"""Units as tokens that can be put together again in another prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tamis.compressors.reading.windows import Window
from tamis.probes.prompt import Read


@dataclass(frozen=True, slots=True)
class UnitTokens:
    """One unit as tokens.

    Attributes:
        unit: its index in the request.
        ids: the tokens between the unit before and this one, then its own from `start` on.
        shared: how many of its first tokens straddle the end of the unit before.
    """

    unit: int
    ids: tuple[int, ...]
    start: int
    shared: int


def units_as_tokens(window: Window) -> list[UnitTokens]:
    """The units of a window, each with what stands before it in its passage."""
    own = window.read.ids[window.read.start :]
    found, end = [], 0
    for u, (start, stop) in enumerate(window.read.spans, window.first):
        begin = min(end, start)
        shared = max(0, min(end, stop) - start)
        found.append(UnitTokens(u, own[begin : max(begin, stop)], start - begin, shared))
        end = max(end, stop)
    return found


def join_units(parts: Iterable[UnitTokens]) -> Read:
    """One readable piece of several units in text order, without a title line.

    Neighbours read as in their text: a token that straddles two is there once.
    """
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    before = None
    for part in parts:
        known = part.shared if before == part.unit - 1 else 0
        begin = len(ids) - known
        ids += part.ids[known:]
        spans.append((begin + part.start, begin + len(part.ids)))
        before = part.unit
    return Read(tuple(ids), 0, tuple(spans))


def units_that_fit(order: Sequence[UnitTokens], most_tokens: int) -> list[UnitTokens]:
    """The first of `order` that fit into so many tokens, in text order; longer ones are passed."""
    kept, room = [], most_tokens
    for part in order:
        if len(part.ids) <= room:
            kept.append(part)
            room -= len(part.ids)
    return sorted(kept, key=lambda part: part.unit)
