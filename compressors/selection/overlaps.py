"""Text that two passages share because a splitter cut them from one document with an overlap.

    one    … is moved by hand. Ruben cuts the branch on January 20th, so there is time.
    other                              the branch on January 20th, so there is time. After that …
                                       └─────────── the end of one, the start of the other

What is whole in one of them and a part in the other is one sentence, not two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tamis.compressors.types import passage_runs
from tamis.probes.interruption import check_interruption
from tamis.probes.text import Passage, Unit

LEAST_CHARS = 20
"""Of an overlap: shorter ones are as likely a phrase that many documents have."""
MOST_CHARS = 2000
"""Of an overlap; splitters' are some hundred. It bounds the time, which is linear in it."""
MOST_ALIKE = 4
"""Of passages that begin with the same characters, which are compared: of those that all begin with
the same title none is the continuation of another."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """A text that ends one passage and starts another, white space at both ends aside.

    Attributes:
        first, second: the passages. begin: where it begins in the first. start, stop: in the
            second.
    """

    first: int
    second: int
    begin: int
    start: int
    stop: int


def find_overlaps(texts: Sequence[str]) -> Iterator[Overlap]:
    """The longest overlap of each pair of texts that has one, in linear time.

    Those of under `LEAST_CHARS` or over `MOST_CHARS` are not found, and of texts that begin alike
    only those of the first `MOST_ALIKE`.
    """
    starts = [len(text) - len(text.lstrip()) for text in texts]
    openings: dict[str, list[int]] = defaultdict(list)
    for i, (text, start) in enumerate(zip(texts, starts, strict=True)):
        alike = openings[text[start : start + LEAST_CHARS]]
        if len(alike) < MOST_ALIKE:
            alike.append(i)
    for first, text in enumerate(texts):
        check_interruption()
        end, found = len(text.rstrip()), {first}
        for begin in range(max(0, end - MOST_CHARS), end - LEAST_CHARS + 1):
            for second in openings.get(text[begin : begin + LEAST_CHARS], ()):
                start = starts[second]
                if second not in found and texts[second].startswith(text[begin:end], start):
                    found.add(second)
                    yield Overlap(first, second, begin, start, start + end - begin)


@dataclass(frozen=True, slots=True)
class SharedText:
    """What overlaps make of units, by their places.

    Attributes:
        repeats: units that another one has whole, by that one, which is no repeat.
        halves: the two units that a sentence was cut into which neither passage has whole.
    """

    repeats: Mapping[int, int]
    halves: Sequence[tuple[int, int]]


def find_shared(
    passages: Sequence[Passage], units: Sequence[Unit], leads: Container[int]
) -> SharedText:
    """Which units are shared by passages that overlap.

    Where both have one whole the first passage's stays, since what introduces it stands above it;
    from the first lead in an overlap on the second's, which has what the lead introduces.
    """
    members = {units[first].passage: range(first, stop) for first, stop in passage_runs(units)}
    repeats: dict[int, int] = {}
    halves = []

    def source(u: int) -> int:
        while u in repeats:
            u = repeats[u]
        return u

    for overlap in find_overlaps([passage.text for passage in passages]):
        first, second = (members.get(p, range(0)) for p in (overlap.first, overlap.second))
        moved = overlap.begin - overlap.start
        opening = [u for u in second if units[u].visible[1] <= overlap.stop]
        ending = [u for u in first if units[u].visible[0] >= overlap.begin]
        opening_pairs = _pair_with_whole(units, opening, first, moved)
        lead = next((u for u, _, is_same in opening_pairs if is_same and u in leads), len(units))
        pairs = [(u, v) for u, v, is_same in opening_pairs if not is_same or u < lead]
        for u, v, is_same in _pair_with_whole(units, ending, second, -moved):
            if not is_same or v >= lead:
                pairs.append((u, v))
        for u, whole in pairs:
            if u not in repeats and source(whole) != u:
                repeats[u] = whole
        for u in second:
            start, stop = units[u].visible
            if start < overlap.stop < stop and first and first[-1] not in repeats:
                halves.append((first[-1], u))
    return SharedText({u: source(u) for u in repeats}, halves)


def _pair_with_whole(
    units: Sequence[Unit], inside: Sequence[int], others: Sequence[int], moved: int
) -> list[tuple[int, int, bool]]:
    """Units with the one of another passage that has all their text, and whether it has no more.

    Args:
        inside: those that lie in an overlap. moved: from their places to those of the others.
    """
    starts = [units[v].visible[0] for v in others]
    pairs = []
    for u in inside:
        start, stop = (place + moved for place in units[u].visible)
        v = bisect_right(starts, start) - 1
        if v >= 0 and units[others[v]].visible[1] >= stop:
            pairs.append((u, others[v], units[others[v]].visible == (start, stop)))
    return pairs
