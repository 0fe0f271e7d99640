"""Fills a token budget with parts of one output, markers counted, and writes the result.

Parts are taken in order while their tokens and those of the markers fit. Failures that are longer
than their share are cut within before that: both ends stay.
"""

from __future__ import annotations

import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, groupby, pairwise

from tamis.compressors.tools.markers import embed_marker
from tamis.compressors.tools.types import CompressedToolOutput, Marker, Omission
from tamis.probes.tokens import TextTokenizer
from tamis.text.readers.outputs.json_parts import SMALL_CHARS
from tamis.text.readers.outputs.line_table import ENTRIES, LIKE_IT
from tamis.text.readers.outputs.parts import (
    LAST_PROTECTED,
    Level,
    ParsedOutput,
    Part,
    Place,
)

_KIND_TOKENS = 5
"""What a marker has more where it counts failures."""


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
        self._failures = [0, *accumulate(part.level == Level.MESSAGE for part in parts)]
        self.used = self._gap_cost(0, len(parts))

    def fill(
        self, order: Sequence[int], protected: int, limit: int, idle: Container[int] = ()
    ) -> list[int]:
        """Takes parts while they fit; behind the first that does not, unprotected ones alone.

        What is taken before the first that does not fit, with the gaps that are closed between,
        only grows with the limit: no greater limit loses a protected part.

        Args:
            order: indexes of parts. protected: how many at its front are.
            idle: those that are not taken in place of a protected one.
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
            if not (lost and i in idle):
                self._take(i, limit)
        if self.taken:
            self._close_gaps()
        return self.taken

    def _take(self, i: int, limit: int) -> bool:
        """Shows a part with its headers, unless that is too much."""
        new = [j for j in (*self.parts[i].needs, i) if not self.shown[j]]
        room = limit - self.used + (self.marker_tokens + _KIND_TOKENS) * len(new)
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
        counts = _KIND_TOKENS * (self._failures[stop] > self._failures[first])
        return min(self.marker_tokens + counts, self._sums[stop] - self._sums[first])

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
_FATAL = re.compile(r"\b(?:fatal|panic|critical|emerg)", re.I)
_FAILED = re.compile(r"\bfail", re.I)
_KIND_CHARS = 500


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
        self,
        order: Sequence[int],
        protected: int,
        limit: int,
        marker: Marker,
        tokens_in: int,
        idle: Container[int] = (),
    ) -> CompressedToolOutput:
        """Takes parts in order while they fit; behind the first that does not, unprotected ones.

        What is taken before the first that does not fit only grows with the budget: no protected
        part is lost by a greater one, once there is room for the first with its markers.

        Args:
            order: indexes of the parts. protected: how many of them are.
            limit: the most tokens of the result, markers included; more where it holds no failure.
            idle: those that are not taken in place of a protected one.
        """
        marker_tokens = self.marker_tokens(marker)
        found = self._pack(order, protected, limit, marker, tokens_in, marker_tokens, 0, idle)
        if not self.is_small or not found.omissions:
            return found
        # parts have more tokens each by itself than together, of which a small text feels more
        for _ in range(_MORE_FILLINGS):
            spare = limit - found.tokens_out
            better = self._pack(
                order, protected, limit, marker, tokens_in, marker_tokens, spare, idle
            )
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
        idle: Container[int],
    ) -> CompressedToolOutput:
        filling = Filling(self.parsed.parts, self.tokens, marker_tokens, self._is_scattered)
        room = limit + spare - marker_tokens * self.is_small
        taken = filling.fill(order, protected, room, idle)
        while True:
            shown = self._with_needs(taken)
            text, omissions = self._render(shown, marker)
            count = self.counter.count(text)
            if count <= limit or not taken:
                break
            taken = self._drop_last(taken, filling.first_taken, count - limit, marker_tokens)
        if not taken:
            return self._smallest(order, protected, limit, marker, tokens_in)
        return self._result(text, shown, omissions, count, tokens_in)

    def _is_scattered(self, first: int) -> bool:
        """Whether the gap that begins with a part shares the one marker of a small text.

        Entries of lists do not: each list says what it lacks.
        """
        part = self.parsed.parts[first]
        return self.is_small and part.place == "member" and not part.is_entry

    def marker_tokens(self, marker: Marker) -> int:
        """What a gap is taken to cost."""
        return self.counter.count(self._typical_marker(marker)) if self.tokens else 0

    def _typical_marker(self, marker: Marker) -> str:
        """The marker of some parts in the middle."""
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
        failures = self._failures([j for _, gap in pairs for j in gap])
        stop = pairs[-1][0].stop
        return replace(pairs[0][0], stop=stop, tokens=tokens, content=failures, scattered=values)

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
        """What a gap has: failures, entries of lists, or a run of like parts (`9 more PASSED`)."""
        if failures := self._failures(gap):
            return failures
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

    def _failures(self, gap: Sequence[int]) -> str | None:
        """How many failures of each kind a gap has: `1 fatal, 2 errors`; None where it has none."""
        counts = Counter[str]()
        for part in (self.parsed.parts[j] for j in gap):
            if part.level == Level.MESSAGE and not part.is_frame:
                front = self.text[part.start : min(part.stop, part.start + _KIND_CHARS)]
                kind = "failed" if _FAILED.search(front) else "errors"
                counts["fatal" if _FATAL.search(front) else kind] += 1
        if counts["errors"] == 1:
            counts["error"] = counts.pop("errors")
        return ", ".join(f"{n} {kind}" for kind, n in counts.items() if n) or None

    def _smallest(
        self, order: Sequence[int], protected: int, limit: int, marker: Marker, tokens_in: int
    ) -> CompressedToolOutput:
        """For a budget without room for a part and its markers: the first failure, whatever it has.

        Where nothing failed a marker alone, in JSON with its brackets; the whole text where that is
        no longer.
        """
        shown = [not part.needs and part.is_frame for part in self.parsed.parts]
        note = f"{limit} tokens admit no line of this output"
        if protected:
            shown = self._with_needs(order[:1])
            note = f"{limit} tokens are too few for what failed and its markers"
        text, omissions = self._render(shown, marker)
        count = self.counter.count(text)
        if count >= tokens_in:
            return self.whole(tokens_in, (f"{note}: it stays whole",))
        if count > limit:
            note = f"{note}, which have {count}"
        elif protected:
            return self._result(text, shown, omissions, count, tokens_in)
        what = "the first of it" if protected else "only a marker"
        return self._result(text, shown, omissions, count, tokens_in, (f"{note}: {what}",))

    def whole(self, tokens: int, warnings: tuple[str, ...] = ()) -> CompressedToolOutput:
        """The text as it is, with its tokens."""
        kept = ((0, len(self.text)),) if self.text else ()
        format_name = self.parsed.format
        return CompressedToolOutput(self.text, kept, (), format_name, tokens, tokens, warnings)

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


CUT_TOKENS, CUT_SHARE = 200, 0.25
"""A failure of fewer tokens than both, the second of the limit, is never cut."""
_LEAST_CHARS = 120
"""Stay of a line, or of a string of JSON, in any case; two thirds at its front."""
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?', re.S)
_ESCAPE = re.compile(r"\\u[dD][89abAB]..\\u....|\\u....|\\.", re.S)


def cut_failures(
    text: str,
    parsed: ParsedOutput,
    tokens: Sequence[int],
    limit: int,
    marker_tokens: int,
    counter: TextTokenizer,
) -> tuple[ParsedOutput, list[int], list[int]]:
    """The parts with long failures and their headers in pieces, which are shown together.

    The pieces between them are left out. What all failures get together is divided so that the
    short ones stay whole; a greater limit cuts none shorter.

    Args:
        tokens: of each part. limit: of the output. marker_tokens: of a marker.

    Returns:
        the parts, the tokens of each, and the index of the part that each was.
    """
    most = _most_tokens(parsed.parts, tokens, limit, marker_tokens)
    edges = [*(part.start for part in parsed.parts[1:]), len(text)]
    cut: dict[int, list[int]] = {}
    for i in _wanted(parsed.parts):
        part = parsed.parts[i]
        if tokens[i] > most and not part.is_frame:
            room = most - marker_tokens
            cut[i] = _edges_of_pieces(text, part, tokens[i], room, marker_tokens, counter)
    if not any(cut.values()):
        return parsed, list(tokens), list(range(len(tokens)))
    parts, counts, origins = list[Part](), list[int](), list[int]()
    shown = list[tuple[int, ...]]()
    for i, part in enumerate(parsed.parts):
        inner = cut.get(i, [])
        first = len(parts)
        shown.append(tuple(range(first, first + len(inner) + 1, 2)))
        if not inner:
            parts.append(part)
            counts.append(tokens[i])
            origins.append(i)
            continue
        spans = list(pairwise([part.start, *inner, part.stop]))
        counts += counter.count_many(
            [text[a:b] for a, b in [*spans[:-1], (spans[-1][0], edges[i])]]
        )
        origins += [i] * len(spans)
        parts += _pieces(part, spans)
    # each is shown with all pieces of its headers, and the first piece with the others
    for n, part in enumerate(parts):
        own = [j for j in shown[origins[n]] if j != n]
        needs = (j for i in part.needs for j in shown[i])
        parts[n] = part._replace(needs=tuple(dict.fromkeys((*own, *needs))))
    return ParsedOutput(parsed.format, parts, parsed.runs), counts, origins


def _wanted(parts: Sequence[Part]) -> list[int]:
    """The protected parts and their headers."""
    protected = (i for i, p in enumerate(parts) if p.level <= LAST_PROTECTED and not p.is_frame)
    return sorted({j for i in protected for j in (*parts[i].needs, i)})


def _most_tokens(
    parts: Sequence[Part], tokens: Sequence[int], limit: int, marker_tokens: int
) -> int:
    """What one may have, so that all fit with their markers, or as many as can."""
    wanted = _wanted(parts)
    gaps = 1 + sum(b > a + 1 for a, b in pairwise([-1, *wanted]))
    left, most = limit - gaps * marker_tokens * 3 // 2, limit  # some have more than is usual
    counts = sorted(tokens[i] for i in wanted)
    for n, count in enumerate(counts):
        most = left // (len(counts) - n)
        if count > most:
            return max(most, min(CUT_TOKENS, int(CUT_SHARE * limit)))
        left -= count
    return limit


def _pieces(part: Part, spans: Sequence[tuple[int, int]]) -> Iterator[Part]:
    """The pieces of a part: the first stands for it, every second is left out."""
    place: Place = "line" if part.place == "line" else "string_line"
    for n, (start, stop) in enumerate(spans):
        if n % 2 == 0:
            yield part._replace(start=start, stop=stop, is_frame=n > 0)
            continue
        first, last = start - part.start + 1, stop - part.start
        yield Part(start, stop, first, last, Level.ORDINARY, "characters", (), place=place)


def _edges_of_pieces(
    text: str, part: Part, tokens: int, room: int, marker_tokens: int, counter: TextTokenizer
) -> list[int]:
    """Where a part is cut: at the start and the stop of each piece that goes; none if in vain."""
    chars = max(_LEAST_CHARS, room * (part.stop - part.start) // tokens)
    while True:
        inner = _inner_edges(text, part, chars)
        edges = [part.start, *inner, part.stop]
        kept = [text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        count = sum(counter.count_many(kept)) if inner else tokens
        if count <= room or chars == _LEAST_CHARS:
            saves = count + marker_tokens * (len(inner) // 2) < tokens
            return inner if saves else []
        chars = max(_LEAST_CHARS, chars * 9 // 10)


FAILURE_WORD = re.compile(
    r"error|fail|fatal|exception|panic|traceback|assert|not found|exit code|✕|●", re.I
)


def _inner_edges(text: str, part: Part, chars: int) -> list[int]:
    """Where so many characters of a line stay, or of each string of JSON.

    They are its front and its end and, where what a word of failure says is between them, that.
    """
    if part.place in ("line", "string_line"):
        strings = [(part.start, part.stop)]
    else:
        found = _STRING.finditer(text, part.start, part.stop)
        strings = [match.span(1) for match in found if not match[2]]
    edges: list[int] = []
    for start, stop in strings:
        if stop - start <= chars:
            continue
        front, first, last = start + chars // 3, start + chars * 2 // 3, stop - chars // 3
        if part.place != "line":
            for escape in _ESCAPE.finditer(text, start, stop):
                first, last = (
                    escape.end() if escape.start() < at < escape.end() else at
                    for at in (first, last)
                )
        elif word := FAILURE_WORD.search(text, front, stop):
            after = word.start() + chars // 4  # and what it is said of
            if word.start() < last and after > first:
                edges += [front, after - chars // 3]
                first = after
        edges += [first, last] * (first < last)
    return edges
