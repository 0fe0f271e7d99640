"""Packs steps of units into a token budget, counted as the joined text will be.

Steps are taken in one order, whatever the budget is, up to the first that does not fit. So what is
taken in order under a budget is kept under every larger one.

The tokens of a joined text are not the sum of its parts' tokens. A step's are estimated: its units'
own tokens, its passage's heading, the elisions it opens or closes. The joined text is counted
whenever it has grown by a quarter, and at the end, where the longest run of steps is kept whose
text fits.

A unit whose words are nearly those of a kept unit (by the Jaccard index of their sets) is left
out, and so is one that overlapping passages share with a kept unit.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from heapq import nsmallest
from itertools import chain, pairwise

from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.rendering import Renderer
from tamis.compressors.types import passage_runs
from tamis.probes.interruption import check_interruption
from tamis.probes.tokens import TextTokenizer
from tamis.text.terms import cached_words
from tamis.text.types import Passage, Unit

_DOUBT_TOKENS = 3
"""A unit has two ends, and its passage's heading one more, where tokens may merge or split."""
_GROWTH = 1.25
"""By which the text has grown when it is counted again."""
_MOST_TRIALS = 64
"""So many units are counted in vain to fill the room: of a long list none may fit."""
SHORT_LEAD_TOKENS = 30
"""A lead with more tokens than these is shown only if it is no longer than what it leads to."""


class BudgetPacker:
    """The steps taken so far, and whether a further one fits.

    Attributes:
        kept_units: the units taken. mandatory: units that only the limit may leave out.
        groups: which units belong together.
        used_tokens: of the kept units as joined; an estimate until `close`.
        unit_tokens: each unit's own tokens, estimated.
        passage_tokens: the sum of these over the kept units of each passage.
    """

    def __init__(
        self, renderer: Renderer, counter: TextTokenizer, limit: float, mandatory: set[int]
    ) -> None:
        self.renderer, self.counter = renderer, counter
        self.mandatory = mandatory
        everything = range(len(renderer.units))
        self.unit_tokens = counter.count_many([renderer.text_with_space(u) for u in everything])
        self._prefix_tokens_cache: dict[str, int] = {}
        for u in everything:
            check_interruption()
            if blank := renderer.space_before(u):
                self.unit_tokens[u] -= self._prefix_tokens(blank)
        rules = renderer.rules
        self._near_duplicates = (
            NearDuplicates(map(renderer.visible_text, everything), rules.dedup)
            if rules.dedup
            else None
        )
        # words are too small to be read for what they introduce
        read = () if rules.granularity == "token" else renderer.passages
        self.groups = Groups(renderer.units, read)
        shared = find_shared(read if rules.dedup else (), renderer.units, self.groups.stops)
        self.repeats, self.halves = shared.repeats, shared.halves
        self._start_empty(limit)

    def with_limit(self, limit: float) -> BudgetPacker:
        """An empty packer of the same units; what was counted of them is not counted again."""
        twin = copy(self)
        if self._near_duplicates:
            twin._near_duplicates = self._near_duplicates.empty_copy()
        twin._start_empty(limit)
        return twin

    def _start_empty(self, limit: float) -> None:
        self.limit = limit
        self.kept_units: set[int] = set()
        self.used_tokens: float = 0
        self.passage_tokens = [0] * len(self.renderer.passages)
        self._kept_in_order: list[int] = []
        self._kept_below: Counter[int] = Counter()  # of each lead the kept units that say something
        self._taken: list[tuple[int, ...]] = []
        self._closed = 0, 0.0  # of the steps that are known to fit, how many, and their tokens
        self._counted = 0.0

    def take(self, step: Sequence[int]) -> bool:
        """Takes those of a step's units that are not kept yet, if they seem to fit.

        Returns:
            Whether they did. Then the text may still be some tokens too long, until `close`.
        """
        check_interruption()
        new = tuple(sorted(u for u in step if u not in self.kept_units))
        if not new:
            return True
        if self._taken:
            used = self.used_tokens + self._estimate_added_tokens(new)
            doubt = 0 if self._closed[0] else _DOUBT_TOKENS + len(self._taken) // 4
        else:  # the first is counted, so that `close` never gives it back
            used, doubt = self.count_tokens(new), 0
        if used > self.limit + doubt:
            return False
        self._keep(new)
        self.used_tokens = used
        if self.limit < math.inf and used > _GROWTH * self._counted:
            self.used_tokens = self._counted = self.count_tokens(self.kept_units)
        return True

    def take_all(self, candidates: Sequence[int]) -> None:
        """Takes all candidates if they fit together: with elisions, a part may be longer."""
        surplus = sum(self.unit_tokens[u] for u in candidates) - self.limit
        if self.limit == math.inf or surplus > _DOUBT_TOKENS * len(candidates):
            return
        if not self._near_duplicates and self.count_tokens(candidates) <= self.limit:
            self._keep(tuple(sorted(candidates)))

    def close(self) -> None:
        """Counts the joined text, and keeps the longest run of steps whose text fits."""
        steps, (run, self.used_tokens) = self._taken, self._closed
        new = len(steps) - run if self.limit < math.inf else 0
        # every budget looks at the same places, so that a larger one never finds a shorter run
        for bit in reversed(range(new.bit_length())):
            longer = run + (1 << bit)
            if longer <= len(steps):
                tokens = self.count_tokens(list(chain.from_iterable(steps[:longer])))
                if tokens <= self.limit:
                    run, self.used_tokens = longer, tokens
        if self.limit == math.inf and run < len(steps):
            run, self.used_tokens = len(steps), self.count_tokens(self.kept_units)
        if dropped := [*chain.from_iterable(steps[run:])]:
            del steps[run:]
            self.kept_units.difference_update(dropped)
            self._kept_in_order = sorted(self.kept_units)  # one by one, each would move many
            for u in dropped:
                self._count(u, -1)
        self._closed = len(steps), self.used_tokens

    def top_up(self, eligible: Sequence[int]) -> None:
        """Takes whatever still fits, each with its leads, counted one by one, until nothing does.

        A larger budget may lose what was taken so.
        """
        was, trials = -1, _MOST_TRIALS
        while was != len(self.kept_units):
            was = len(self.kept_units)
            for u in eligible:
                step = self.unit_with_leads(u)
                cost = sum(self.unit_tokens[v] for v in step if v not in self.kept_units)
                room = self.limit - self.used_tokens + _DOUBT_TOKENS * len(step)
                if u in self.kept_units or cost > room or not trials or self.is_near_duplicate(u):
                    continue
                new = [v for v in step if v not in self.kept_units]
                if (tokens := self.count_tokens(self.kept_units.union(new))) <= self.limit:
                    self._keep(tuple(new))
                    self.used_tokens = tokens
                else:
                    trials -= 1

    def is_empty_lead(self, u: int) -> bool:
        """Whether a unit is a lead with no kept unit below it that says something."""
        return u in self.groups and not self._kept_below[u]

    def is_unwanted(self, u: int, with_leads: bool = False) -> bool:
        """Whether a unit that is not kept leads to nothing kept, or repeats a kept one.

        Args:
            with_leads: whether leads are wanted all the same.
        """
        return (not with_leads and self.is_empty_lead(u)) or self.is_near_duplicate(u)

    def is_near_duplicate(self, u: int) -> bool:
        """Whether `rules.dedup` leaves a unit out because a kept one has its text, or nearly the
        same words."""
        if self._near_duplicates is None or u in self.mandatory:
            return False
        repeated = self.repeats.get(u) in self.kept_units
        return repeated or self._near_duplicates.is_near_duplicate(u)

    def count_tokens(self, chosen: Collection[int]) -> int:
        """The tokens of these units as rendered and joined."""
        check_interruption()
        return self.counter.count(self.renderer.text(chosen))

    def unit_with_leads(self, u: int, least: int = 2) -> tuple[int, ...]:
        """A unit after those leads that it has such a bond to."""
        leads = [lead for lead, bond in self.groups.shown_with(u) if bond >= least]
        return (*sorted(leads), u)

    def short_leads(self, u: int) -> list[int]:
        """The leads that a unit is shown with if they are short, the nearest first."""
        most = max(SHORT_LEAD_TOKENS, self.unit_tokens[u])
        leads = [lead for lead, bond in self.groups.shown_with(u) if bond == 1]
        return [lead for lead in leads if self.unit_tokens[lead] <= most]

    def fewest_tokens(self, candidates: Iterable[int]) -> int:
        """The fewest tokens that any of these units has, kept alone."""
        shortest = nsmallest(64, candidates, key=lambda u: (self.unit_tokens[u], u))
        return min(self.count_tokens(self.unit_with_leads(u, 3)) for u in shortest)

    def _estimate_added_tokens(self, group: tuple[int, ...]) -> int:
        """Estimates how many tokens a group adds."""
        passage = self.renderer.units[group[0]].passage
        near = [u for u in self._kept_near(group) if self.renderer.units[u].passage == passage]
        cost = sum(self.unit_tokens[u] for u in group)
        cost += self._joint_tokens(sorted([*near, *group])) - self._joint_tokens(near)
        if near:
            return cost
        separator = self.renderer.rules.separator if self.kept_units else ""
        return cost + self._prefix_tokens(separator + self.renderer.passage_prefix(group[0]))

    def _kept_near(self, group: tuple[int, ...]) -> list[int]:
        """The kept units that stand next to those of a group that is not kept, ascending."""
        places = [bisect_left(self._kept_in_order, u) for u in group]
        return sorted({u for at in places for u in self._kept_in_order[max(0, at - 1) : at + 1]})

    def _joint_tokens(self, ordered: Iterable[int]) -> int:
        """Estimates how many tokens the texts between units of one passage have."""
        between = (self.renderer.text_between(u, v) for u, v in pairwise(ordered))
        return sum(map(self._prefix_tokens, between))

    def _prefix_tokens(self, text: str) -> int:
        """How many tokens a text adds before a word; a blank often adds none."""
        if text not in self._prefix_tokens_cache:
            tokens = self.counter.count(f"{text}a") - self.counter.count("a")
            self._prefix_tokens_cache[text] = tokens
        return self._prefix_tokens_cache[text]

    def _keep(self, step: tuple[int, ...]) -> None:
        self._taken.append(step)
        self.kept_units.update(step)
        for u in step:
            insort(self._kept_in_order, u)
            self._count(u, 1)

    def _count(self, u: int, change: int) -> None:
        """Notes that a unit is kept, or no longer."""
        self.passage_tokens[self.renderer.units[u].passage] += change * self.unit_tokens[u]
        if self._near_duplicates:
            (self._near_duplicates.add if change > 0 else self._near_duplicates.remove)(u)
        if u not in self.groups:
            for lead in self.groups.ancestors(u):
                self._kept_below[lead] += change


_MIN_DUPLICATE_WORDS = 4
_ROUNDING = 1e-9


class NearDuplicates:
    """Finds near-duplicates among the kept texts, by the Jaccard index of their sets of words.

    Exact, and without comparing all pairs: two sets with enough words in common have one of their
    rarest words in common (prefix filtering; Bayardo, Ma, Srikant, "Scaling Up All Pairs Similarity
    Search", 2007).
    """

    def __init__(self, texts: Iterable[str], share: float) -> None:
        self._share = share
        self._words = [frozenset(cached_words(text)) for text in texts]
        self._texts_with = Counter(word for words in self._words for word in words)
        self._rarest: dict[int, list[str]] = {}
        self._kept_by_word: dict[str, set[int]] = defaultdict(set)

    def empty_copy(self) -> NearDuplicates:
        """The same texts, none of them kept."""
        twin = copy(self)
        twin._kept_by_word = defaultdict(set)
        return twin

    def add(self, u: int) -> None:
        """Adds text `u` to the kept ones."""
        for word in self._rarest_words(u):
            self._kept_by_word[word].add(u)

    def remove(self, u: int) -> None:
        """Removes text `u` from the kept ones."""
        for word in self._rarest_words(u):
            self._kept_by_word[word].discard(u)

    def is_near_duplicate(self, u: int) -> bool:
        """Whether a kept text has nearly the same words; false for texts of under 4 words."""
        if len(self._words[u]) < _MIN_DUPLICATE_WORDS:
            return False
        near = set().union(*(self._kept_by_word.get(word, ()) for word in self._rarest_words(u)))
        return any(self._jaccard(u, other) >= self._share - _ROUNDING for other in near)

    def _rarest_words(self, u: int) -> list[str]:
        if (found := self._rarest.get(u)) is None:
            words = self._words[u]
            count = len(words) - math.ceil(self._share * len(words) - _ROUNDING) + 1
            found = nsmallest(count, words, key=lambda w: (self._texts_with[w], w))
            self._rarest[u] = found
        return found

    def _jaccard(self, u: int, v: int) -> float:
        one, other = self._words[u], self._words[v]
        return len(one & other) / len(one | other)


# Text that two passages share because a splitter cut them from one document with an overlap:
#
#     one    … is moved by hand. Ruben cuts the branch on January 20th, so there is time.
#     other                              the branch on January 20th, so there is time. After that …
#                                        └─────────── the end of one, the start of the other
#
# What is whole in one of them and a part in the other is one sentence, not two.

LEAST_CHARS = 20
"""An overlap has so many: a shorter one is as likely a phrase that many documents have."""
MOST_CHARS = 2000
"""An overlap has at most so many; splitters' have some hundred. The time is linear in it."""
MOST_ALIKE = 4
"""At most so many passages that begin with the same characters are compared: of those that all
begin with the same title none is the continuation of another."""


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
