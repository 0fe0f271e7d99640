"""Fills a token budget with parts of one output, markers counted, and writes the result.

Parts are taken in order while their tokens and those of the markers fit.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise

from tamis.compressors.tools.markers import embed_marker
from tamis.compressors.tools.types import CompressedToolOutput, Marker, Omission
from tamis.probes.segmentation.tool_output.json_parts import SMALL_CHARS
from tamis.probes.segmentation.tool_output.line_table import ENTRIES, LIKE_IT
from tamis.probes.segmentation.tool_output.parts import ParsedOutput, Part
from tamis.probes.tokens import TextTokenizer


class Filling:
    """Which parts are shown so far, and an estimate of what that costs, markers included.

    A part costs its tokens and those of the headers that come with it. A gap, which is a run of
    parts that are left out, costs a marker, or its own tokens where these are fewer: then it is
    shown in the end. So a part next to one that is shown is cheaper than another.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        tokens: Sequence[int],
        marker_tokens: int,
        is_scattered: Callable[[int], bool] = lambda first: False,
    ) -> None:
        """`is_scattered`: whether the gap that begins with a part has no marker of its own."""
        self.parts, self.tokens, self.marker_tokens = parts, tokens, marker_tokens
        self.is_scattered = is_scattered
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
        if first == stop or self.is_scattered(first):
            return 0
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
            tokens = self._sums[stop] - self._sums[first]
            if tokens <= self.marker_tokens and not self.is_scattered(first):
                self._show(range(first, stop))
        shown = [i for i, is_shown in enumerate(self.shown) if is_shown]
        self._edges = [-1, *shown, len(self.parts)]

    def _keep_out(self, lost: Iterable[int]) -> None:
        """Makes gaps with protected parts in them too dear to be closed.

        They come back with a greater limit alone: closed by chance, a greater limit could lose
        them.
        """
        dear = list(self.tokens)
        for i in lost:
            dear[i] += self.marker_tokens + 1
        self._sums = [0, *accumulate(dear)]


_Span = tuple[int, int, list[int] | None]
"""Start and stop, and the parts of a gap; None where it is kept."""
_TYPICAL_PARTS = 8
_MORE_FILLINGS = 3
_MOST_ATTEMPTS = 200
"""Parts that are tried one by one where the budget has no room for a part and its markers."""


class Packer:
    """One output with its tokens a part; `pack` may be called with several budgets."""

    def __init__(
        self, text: str, parsed: ParsedOutput, tokens: Sequence[int], counter: TextTokenizer
    ) -> None:
        self.text, self.parsed, self.tokens, self.counter = text, parsed, tokens, counter
        self.has_markers = '"…' in text
        # a marker for each value would take what the values could have
        self.is_small = parsed.format == "json" and len(text) <= SMALL_CHARS

    def pack(
        self, order: Sequence[int], protected: int, limit: int, marker: Marker, tokens_in: int
    ) -> CompressedToolOutput:
        """Takes parts in order while they fit; behind the first that does not, unprotected ones.

        What is taken before the first that does not fit only grows with the budget: no protected
        part is lost by a greater one, once there is room for the first with its markers.

        Args:
            order: indexes of the parts. protected: how many of them are.
            limit: the most tokens of the result, markers included.
        """
        marker_tokens = self.counter.count(self._typical_marker(marker)) if self.tokens else 0
        found = self._pack(order, protected, limit, marker, tokens_in, marker_tokens, 0)
        if not self.is_small or not found.omissions:
            return found
        # parts have more tokens each by itself than together, of which a small text feels more
        for _ in range(_MORE_FILLINGS):
            spare = limit - found.tokens_out
            better = self._pack(order, protected, limit, marker, tokens_in, marker_tokens, spare)
            if better.tokens_out <= found.tokens_out:
                break
            found = better
        return found

    def _pack(
        self,
        order: Sequence[int],
        protected: int,
        limit: int,
        marker: Marker,
        tokens_in: int,
        marker_tokens: int,
        spare: int,
    ) -> CompressedToolOutput:
        filling = Filling(self.parsed.parts, self.tokens, marker_tokens, self._is_scattered)
        taken = filling.fill(order, protected, limit + spare - marker_tokens * self.is_small)
        while True:
            shown = self._with_needs(taken)
            text, omissions = self._render(shown, marker)
            count = self.counter.count(text)
            if count <= limit or not taken:
                break
            taken = self._drop_last(taken, filling.first_taken, count - limit, marker_tokens)
        if not taken:
            return self._smallest(order, limit, marker, tokens_in)
        return self._result(text, shown, omissions, count, tokens_in)

    def _is_scattered(self, first: int) -> bool:
        """Whether the gap that begins with a part shares the one marker of a small text.

        Entries of lists do not: each list says what it lacks.
        """
        part = self.parsed.parts[first]
        return self.is_small and part.place == "member" and not part.is_entry

    def _typical_marker(self, marker: Marker) -> str:
        """The marker of some parts in the middle: what a gap is taken to cost."""
        parts = self.parsed.parts
        middle = len(parts) // 2
        first, stop = parts[middle], min(len(parts), middle + _TYPICAL_PARTS)
        last = max(first.last + 1, parts[stop - 1].last)
        tokens = sum(self.tokens[middle:stop])
        gap = Omission(first.start, first.stop, first.unit, first.first, last, tokens)
        return self._embedded(gap, middle, marker)

    def _embedded(self, omission: Omission, first: int, marker: Marker) -> str:
        """The marker of an omission that begins with a part, with the line's end if it had one."""
        place = self.parsed.parts[first].place
        ending = "\\n" if place == "string_line" else "\n"
        key = f"… {omission.first}-{omission.last}" if not omission.scattered else "…"
        if self.has_markers:  # the answer of an earlier compression: another key than any there
            key = f"… {omission.first}-{omission.last}, from {omission.start}"
        ends_line = self.text.endswith(ending, omission.start, omission.stop)
        return embed_marker(marker(omission), place, key, ends_line)

    def _drop_last(
        self, taken: list[int], first_taken: int, excess: int, marker_tokens: int
    ) -> list[int]:
        """Without the last ones, which make up for the excess; of the first ones, the fewest.

        Markers may cost more than was estimated, and lines together more than each by itself. Of
        the first ones only those go at once that cannot make up for the excess, so that a greater
        limit never loses one that a smaller has.
        """
        if len(taken) > first_taken:
            while len(taken) > first_taken and excess > 0:
                excess -= self.tokens[taken[-1]]
                taken = taken[:-1]
            return taken
        keep = len(taken)
        while keep and excess > 0:
            keep -= 1
            excess -= self._most_saved(taken[keep]) + 2 * marker_tokens
        return taken[:keep]

    def _most_saved(self, i: int) -> int:
        """What a part and its headers have of tokens."""
        return self.tokens[i] + sum(self.tokens[j] for j in self.parsed.parts[i].needs)

    def _with_needs(self, taken: Sequence[int]) -> list[bool]:
        parts = self.parsed.parts
        needed = {j for i in taken for j in (*parts[i].needs, i)}
        return [j in needed for j in range(len(parts))]

    def _render(self, shown: Sequence[bool], marker: Marker) -> tuple[str, list[Omission]]:
        spans = list(self._spans(shown))
        omissions = self._omissions([gap for _, _, gap in spans if gap is not None])
        ahead, statement = iter(omissions), self._statement(spans, omissions)
        pieces = []
        for start, stop, gap in spans:
            if gap is None:
                pieces.append(self.text[start:stop])
                continue
            omission = next(ahead)
            if not self._is_scattered(gap[0]):
                pieces.append(self._embedded(omission, gap[0], marker))
            elif statement is not None and start == statement.start:
                pieces.append(self._embedded(statement, gap[0], marker))
        return "".join(pieces), omissions

    def _statement(self, spans: Sequence[_Span], omissions: Sequence[Omission]) -> Omission | None:
        """What the one marker of a small text stands for: all gaps without one of their own."""
        gaps = [gap for _, _, gap in spans if gap is not None]
        pairs = [(o, g) for o, g in zip(omissions, gaps, strict=True) if self._is_scattered(g[0])]
        if len(pairs) < 2:
            return pairs[0][0] if pairs else None
        values = sum(not self.parsed.parts[j].is_frame for _, gap in pairs for j in gap)
        tokens = sum(omission.tokens for omission, _ in pairs)
        stop = pairs[-1][0].stop
        return replace(pairs[0][0], stop=stop, tokens=tokens, content=None, scattered=values)

    def _spans(self, shown: Sequence[bool]) -> Iterator[_Span]:
        """The kept spans and the omissions, in order; separators belong to what is kept.

        That of an omission without a marker goes with it.
        """
        spans, has_statement, start = list(self._gaps(shown)), False, 0
        for n, (_, stop, gap) in enumerate(spans):
            after = spans[n + 1][2] if n + 1 < len(spans) else None
            if gap is not None:
                skip = self._is_scattered(gap[0]) and has_statement
                has_statement |= self._is_scattered(gap[0])
                is_first = skip and self._opens(gap[0])
                end = self.parsed.parts[gap[-1] + 1].start if is_first else stop
                yield start, end, gap
                start = end
                continue
            if after is not None and self._is_scattered(after[0]) and has_statement:
                if not self._opens(after[0]):
                    stop = self.parsed.parts[after[0] - 1].stop
            yield start, stop, None
            start = stop

    def _opens(self, first: int) -> bool:
        """Whether a part is the first in its array or object."""
        return self.parsed.parts[first].first == 1

    def _gaps(self, shown: Sequence[bool]) -> Iterator[_Span]:
        parts, at = self.parsed.parts, 0
        for is_shown, group in groupby(range(len(parts)), key=shown.__getitem__):
            if is_shown:
                continue
            members = list(group)
            first, last = parts[members[0]], parts[members[-1]]
            if first.start > at:
                yield at, first.start, None
            yield first.start, last.stop, members
            at = last.stop
        if at < len(self.text):
            yield at, len(self.text), None

    def _omissions(self, gaps: Sequence[Sequence[int]]) -> list[Omission]:
        ends = [(self.parsed.parts[gap[0]], self.parsed.parts[gap[-1]]) for gap in gaps]
        counts = self.counter.count_many([self.text[a.start : b.stop] for a, b in ends])
        return [
            Omission(a.start, b.stop, a.unit, a.first, b.last, tokens, self._content(gap))
            for (a, b), tokens, gap in zip(ends, counts, gaps, strict=True)
        ]

    def _content(self, gap: Sequence[int]) -> str | None:
        """What a gap has: the entries of lists, or of one run of like parts: `178 more PASSED`."""
        parts, names = self.parsed.parts, self.parsed.runs
        runs = {parts[j].run for j in gap}
        lists = [parts[j] for j in gap if parts[j].run >= 0 and names[parts[j].run] == ENTRIES]
        if lists:
            return f"{sum(part.last - part.first + 1 for part in lists)} {ENTRIES}"
        if len(runs) > 1 or -1 in runs:
            return None
        (run,) = runs
        ends = (gap[0] - 1, gap[-1] + 1)
        if any(0 <= j < len(parts) and parts[j].run == run for j in ends):
            return f"{len(gap)} more {names[run]}"
        return f"{len(gap)} like lines" if names[run] == LIKE_IT else f"{len(gap)} {names[run]}"

    def _smallest(
        self, order: Sequence[int], limit: int, marker: Marker, tokens_in: int
    ) -> CompressedToolOutput:
        """For a budget without room for a part and markers: a part alone, or a marker alone.

        JSON cannot go without markers: its brackets with a marker, or without.
        """
        frame = [not p.needs and p.is_frame for p in self.parsed.parts]
        attempts = [(frame, True)]
        if any(frame):
            attempts.append((frame, False))
        else:
            attempts[:0] = [(self._with_needs([i]), False) for i in order[:_MOST_ATTEMPTS]]
        for shown, is_marked in attempts:
            text, omissions = self._render(shown, marker)
            if not is_marked:
                text = "".join(self.text[a:b] for a, b, gap in self._spans(shown) if gap is None)
            if (count := self.counter.count(text)) <= limit:
                warnings: tuple[str, ...] = ()
                if not is_marked:
                    warnings = (
                        f"{limit} tokens leave no room for markers: omissions are not marked",
                    )
                elif not any(shown):
                    warnings = (f"{limit} tokens admit no line of this output: only a marker",)
                return self._result(text, shown, omissions, count, tokens_in, warnings)
        shown = [False] * len(self.parsed.parts)
        omissions = self._render(shown, marker)[1]
        note = f"{limit} tokens admit no line of this output: nothing is shown"
        return self._result("", shown, omissions, 0, tokens_in, (note,))

    def _result(
        self,
        text: str,
        shown: Sequence[bool],
        omissions: Sequence[Omission],
        count: int,
        tokens_in: int,
        warnings: tuple[str, ...] = (),
    ) -> CompressedToolOutput:
        kept = tuple((a, b) for a, b, gap in self._spans(shown) if gap is None)
        return CompressedToolOutput(
            text, kept, tuple(omissions), self.parsed.format, tokens_in, count, warnings
        )
