"""Takes parts of one output in order while their tokens and those of the markers fit."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from tamis.probes.segmentation.tool_output.parts import Part


class Filling:
    """Which parts are shown so far, and an estimate of what that costs, markers included.

    A part costs its tokens and those of the headers that come with it. A gap, which is a run of
    parts that are left out, costs a marker, or its own tokens where these are fewer: then it is
    shown in the end. So a part next to one that is shown is cheaper than another.
    """

    def __init__(self, parts: Sequence[Part], tokens: Sequence[int], marker_tokens: int) -> None:
        self.parts, self.tokens, self.marker_tokens = parts, tokens, marker_tokens
        self.shown = [False] * len(parts)
        self.taken: list[int] = []
        self.first_taken = 0
        """How many were taken before the first that did not fit, closed gaps included."""
        self._edges = [-1, len(parts)]
        """Places of the shown parts in order, and of the ends of the text."""
        self._sums = [0, *accumulate(tokens)]
        self.used = self._gap_cost(0, len(parts))

    def fill(self, order: Sequence[int], protected: int, limit: int) -> list[int]:
        """Takes parts while they fit; behind the first that does not, unprotected ones alone.

        What is taken before the first that does not fit, with the gaps that are closed between,
        only grows with the limit: no greater limit loses a protected part.

        Args:
            order: indexes of parts. protected: how many at its front are.
        """
        last = next((n for n, i in enumerate(order) if not self._take(i, limit)), len(order))
        if not self.taken and protected:
            return []
        if self.taken:
            self._close_gaps()
        self.first_taken = len(self.taken)
        lost = [i for i in order[last:protected] if not self.shown[i]]
        self._keep_out(lost)
        for i in order[max(last, protected) :]:
            self._take(i, limit)
        if self.taken:
            self._close_gaps()
        return self.taken

    def _take(self, i: int, limit: int) -> bool:
        """Shows a part with its headers, unless that is too much."""
        new = [j for j in (*self.parts[i].needs, i) if not self.shown[j]]
        room = limit - self.used + self.marker_tokens * len(new)
        if sum(self.tokens[j] for j in new) > room:
            return False
        cost = sum(map(self._insert, new))
        if self.used + cost > limit:
            for j in new:
                del self._edges[bisect(self._edges, j) - 1]
            return False
        self.used += cost
        self._show(new)
        return True

    def _insert(self, j: int) -> int:
        """Splits the gap that a part lies in; what showing the part costs."""
        place = bisect(self._edges, j)
        first, stop = self._edges[place - 1] + 1, self._edges[place]
        self._edges.insert(place, j)
        gaps = self._gap_cost(first, j) + self._gap_cost(j + 1, stop)
        return self.tokens[j] + gaps - self._gap_cost(first, stop)

    def _gap_cost(self, first: int, stop: int) -> int:
        return min(self.marker_tokens, self._sums[stop] - self._sums[first])

    def _show(self, new: Iterable[int]) -> None:
        for j in new:
            self.shown[j] = True
            if not self.parts[j].is_frame:  # frames are shown with what is in them, never alone
                self.taken.append(j)

    def _close_gaps(self) -> None:
        """Shows what costs no more than the marker in its stead, which is accounted for."""
        gaps = [(a + 1, b) for a, b in pairwise(self._edges) if b > a + 1]
        for first, stop in gaps:
            if self._sums[stop] - self._sums[first] <= self.marker_tokens:
                self._show(range(first, stop))
        self._edges = [
            -1,
            *(i for i, is_shown in enumerate(self.shown) if is_shown),
            len(self.parts),
        ]

    def _keep_out(self, lost: Iterable[int]) -> None:
        """Makes gaps with protected parts in them too dear to be closed.

        They come back with a greater limit alone: closed by chance, a greater limit could lose
        them.
        """
        dear = list(self.tokens)
        for i in lost:
            dear[i] += self.marker_tokens + 1
        self._sums = [0, *accumulate(dear)]
