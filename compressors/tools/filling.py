"""Takes parts of one output in order while their tokens and those of the markers fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from tamis.probes.segmentation.tool_output.parts import Part


class Filling:
    """Which parts are shown so far, and an estimate of what they cost, markers included.

    A part costs its tokens and those of the headers that come with it; each run of parts that is
    left out costs a marker, so that a part next to one that is shown is cheaper than another.
    """

    def __init__(self, parts: Sequence[Part], tokens: Sequence[int], marker_tokens: int) -> None:
        self.parts, self.tokens, self.marker_tokens = parts, tokens, marker_tokens
        self.shown = [False] * len(parts)
        self.used = marker_tokens
        self.taken: list[int] = []

    def fill(self, order: Sequence[int], protected: int, limit: int) -> list[int]:
        """Takes parts while they fit; behind the first that does not, unprotected ones alone.

        What is taken before the first that does not fit only grows with the limit.

        Args:
            order: indexes of parts. protected: how many at its front are.
        """
        last = len(order)
        for place, i in enumerate(order):
            if not self._take(i, limit):
                last = place
                break
        lost = set(order[last:protected])
        rest = order[max(last, protected) :]
        for i in rest:
            self._take(i, limit)
        if self._close_gaps(lost):
            for i in rest:
                self._take(i, limit)
        return self.taken

    def _take(self, i: int, limit: int) -> bool:
        new = [j for j in (*self.parts[i].needs, i) if not self.shown[j]]
        cost = sum(self.tokens[j] for j in new) + self.marker_tokens * self._more_gaps(new)
        if self.used + cost > limit:
            return False
        self._show(new, cost)
        return True

    def _show(self, new: Iterable[int], cost: int) -> None:
        self.used += cost
        for j in new:
            self.shown[j] = True
            self.taken.append(j)

    def _more_gaps(self, new: Sequence[int]) -> int:
        """How many more runs of parts that are left out there are once these are shown."""
        more, shown = 0, self.shown
        for j in new:
            before = j > 0 and not shown[j - 1]
            after = j + 1 < len(shown) and not shown[j + 1]
            more += before + after - 1
            shown[j] = True
        for j in new:
            shown[j] = False
        return more

    def _close_gaps(self, lost: set[int]) -> bool:
        """Shows what costs no more than the marker in its stead; whether there was any.

        Args:
            lost: protected parts that did not fit: they come back with a greater limit alone, so
                that no greater limit loses one.
        """
        closed = False
        for gap in list(self._gaps()):
            cost = sum(self.tokens[j] for j in gap) - self.marker_tokens
            if cost <= 0 and lost.isdisjoint(gap) and len(gap) < len(self.parts):
                self._show(gap, cost)
                closed = True
        return closed

    def _gaps(self) -> Iterator[list[int]]:
        for is_shown, group in groupby(range(len(self.parts)), key=self.shown.__getitem__):
            if not is_shown:
                yield list(group)
