"""Passages joined as one text, and units as tokens that can be joined in another prompt."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tamis.compressors.reading.windows import Window
from tamis.probes.prompt import PassageTokens
from tamis.text.inputs import read_before
from tamis.text.types import Passage, Unit


def join_passages(passages: Sequence[Passage], units: Sequence[Unit]) -> tuple[Passage, list[Unit]]:
    """All passages as one text, a blank line between them, and the units at their new places.

    Titles are between units: only windows made with `include_gaps` hold them.
    """
    text, starts = "", []
    for passage in passages:
        text += ("\n\n" if text else "") + read_before(passage)
        starts.append(len(text))
        text += passage.text
    moved = [
        Unit(0, u.start + s, u.stop + s, (u.visible[0] + s, u.visible[1] + s), u.kind)
        for u in units
        for s in (starts[u.passage],)
    ]
    return Passage(text), moved


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
    """The units of a window, each with the text before it in its passage."""
    own = window.tokens.ids[window.tokens.title_tokens :]
    found, end = [], 0
    for u, (start, stop) in enumerate(window.tokens.unit_spans, window.first):
        begin = min(end, start)
        shared = max(0, min(end, stop) - start)
        found.append(UnitTokens(u, own[begin : max(begin, stop)], start - begin, shared))
        end = max(end, stop)
    return found


def join_units(parts: Iterable[UnitTokens]) -> PassageTokens:
    """Several units, in text order, as one text to read, without a title line.

    Adjacent units read as in their passage: a token that straddles two occurs once.
    """
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    before = None
    for part in parts:
        overlap = part.shared if before == part.unit - 1 else 0
        begin = len(ids) - overlap
        ids += part.ids[overlap:]
        spans.append((begin + part.start, begin + len(part.ids)))
        before = part.unit
    return PassageTokens(tuple(ids), 0, tuple(spans))


def units_that_fit(order: Sequence[UnitTokens], most_tokens: int) -> list[UnitTokens]:
    """The units that fit into `most_tokens`, taken in `order` and returned in text order.

    A unit that does not fit is skipped.
    """
    kept, room = [], most_tokens
    for part in order:
        if len(part.ids) <= room:
            kept.append(part)
            room -= len(part.ids)
    return sorted(kept, key=lambda part: part.unit)
