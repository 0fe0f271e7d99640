"""Packs units into a token budget one by one, counted as the joined text will be.

The tokens of a joined text are not the sum of its parts' tokens, so whether a unit fits is decided
by the cheapest count that is sure enough:

    estimate   the unit's own tokens, its passage's heading, the elisions it opens or closes
    window     where the estimate is in doubt: the text around the unit, counted with and without it
    joined     before a unit in doubt is taken, and at the end: the whole output, counted

The last keeps the result within the budget, the first two leave out no unit that would still fit.

A unit comes with the leads that it is shown with (`groups.py`) and that do not wait until all
content was offered: with all of them, or where those do
not fit with the nearest, but never without its table's header or the lead-in of its list, unless
the two alone are longer than the limit, and a row says something by itself or nothing is worth
more. One whose words are nearly those of a kept unit (by the Jaccard index of their sets) is left
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
from itertools import pairwise

from tamis.compressors.selection.groups import Groups, Lead
from tamis.compressors.selection.rendering import Renderer
from tamis.compressors.types import passage_runs
from tamis.probes.interruption import check_interruption
from tamis.probes.segmentation.terms import cached_words
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer

# a unit has two ends, and its passage's heading one more, where tokens may merge or split
_DOUBT_TOKENS = 3
# kept units on either side of a window
_REACH_UNITS = 2
# kept leads above a unit, one of which it may seem to be in
_NEAR_LEADS = 16
# counts that may fail: bounds the time where thousands of units are a token too long; past that, a
# unit in doubt is left out uncounted
_MAX_FAILED_TRIALS = 1000
# characters that are counted for units in doubt, for each of the input and besides: bounds the time
# where many are in doubt and each takes a count of the whole output
_COUNTED_CHARS, _COUNTED_CHARS_AT_LEAST = 20, 1_000_000


class BudgetPacker:
    """The units taken so far, and which further ones fit.

    Attributes:
        kept_units: the units taken. mandatory: units that only the limit may leave out.
        groups: which units belong together.
        used_tokens: of the kept units as joined; an estimate until `enforce_limit`.
        unit_tokens: each unit's own tokens, estimated.
        passage_tokens: the sum of these over the kept units of each passage.
    """

    def __init__(
        self, renderer: Renderer, counter: TextTokenizer, limit: float, mandatory: set[int]
    ) -> None:
        self.renderer, self.counter = renderer, counter
        self.mandatory = mandatory
        everything = range(len(renderer.units))
        self._input_chars = sum(len(passage.text) for passage in renderer.passages)
        self.unit_tokens = counter.count_many([renderer.text_with_space(u) for u in everything])
        self._prefix_tokens_cache: dict[str, int] = {}
        for u in everything:
            check_interruption()
            if blank := renderer.space_before(u):
                self.unit_tokens[u] -= self._prefix_tokens(blank)
        rules = renderer.rules
        self._elision_tokens = self._prefix_tokens(f" {rules.elision} ") if rules.elision else 0
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
        self.used_tokens = 0
        self.passage_tokens = [0] * len(self.renderer.passages)
        self._kept_in_order: list[int] = []
        self._kept_leads: dict[Lead, list[int]] = {"heading": [], "code": []}  # each ascending
        self._kept_below: Counter[int] = Counter()  # of each lead the kept units that say something
        self._taken: list[tuple[tuple[int, ...], int]] = []  # and its tokens
        self._too_long: set[tuple[int, ...]] = set()
        self._misplaced: dict[int, list[int]] = {}  # by each lead of their sections
        self._has_place: list[int] = []
        self._uncounted_groups = 0  # groups taken by estimate since the last count
        self._trials_left = _MAX_FAILED_TRIALS
        self._chars_left = _COUNTED_CHARS * self._input_chars + _COUNTED_CHARS_AT_LEAST

    def offer(self, u: int, careful: bool = False) -> bool:
        """Takes a unit, with what it is shown with, if it fits and no kept one is nearly the same.

        Args:
            careful: count the joined text before the unit is taken, however sure the estimate is,
                unless too much was counted already.

        Returns:
            Whether the unit was taken.
        """
        check_interruption()
        if u in self.kept_units:
            return False
        # the cheap half of the estimate first: most units end here once the budget is nearly full
        fewest = self.unit_tokens[u] - self._elision_tokens
        room, doubt = self.limit - self.used_tokens, _DOUBT_TOKENS + self._uncounted_groups
        if fewest > room + doubt or self.is_near_duplicate(u):
            return False
        if fewest > room - doubt and not (self._trials_left or self._uncounted_groups):
            return False  # it would have to be counted, and enough were counted in vain
        if any(self._offer_group(u, group, careful) for group in self._groups_with(u)):
            return True
        return not self.kept_units and self._offer_bare_row(u)

    def _offer_bare_row(self, u: int) -> bool:
        """Takes a row with its table's header and not what leads to that, or without any lead.

        For the best unit, where its leads leave no room for it: such a row says more than what is
        worth less.
        """
        if not self._is_row(u):
            return False
        leads = [v for v, bond in self.groups.shown_with(u) if bond == 2]
        fewer = (leads[:n] for n in range(len(leads) - 1, -1, -1))
        return any(self._offer_group(u, (*sorted(some), u), careful=True) for some in fewer)

    def _is_row(self, u: int) -> bool:
        return self.renderer.units[u].kind == "table_row"

    def _is_misplaced(self, group: tuple[int, ...]) -> bool:
        """Whether a unit, or the kept one after it, would be below the heading of another section,
        or in another section, key or block of code, without its own."""
        return any(self._is_misplaced_in(group, kind) for kind in self._kept_leads)

    def _is_misplaced_in(self, group: tuple[int, ...], kind: Lead) -> bool:
        u = group[-1]
        shown = [v for v in group if self._names_section(v) == kind]
        after = self._kept_in_order[bisect_left(self._kept_in_order, u) :][:1] if shown else []
        return any(self._is_misplaced_below(v, shown, kind) for v in (u, *after))

    def _is_misplaced_below(self, u: int, shown: Sequence[int], kind: Lead) -> bool:
        """Whether what a unit would read as part of is another section than its own; of settings
        and code, where its name does not tell.

        Args:
            shown: leads of the kind that come with it, beside the kept ones.
        """
        kept, groups = self._kept_leads[kind], self.groups
        if groups.kinds.get(u) == "heading" or (kind == "code" and u not in groups.ambiguous):
            return False
        above = [v for v in groups.ancestors(u) if self._names_section(v) == kind]
        if not above or above[0] in shown or above[0] in self.kept_units:
            return False
        at = bisect_left(kept, u)
        near = sorted([*kept[max(0, at - _NEAR_LEADS) : at], *(v for v in shown if v < u)])
        last = next((v for v in reversed(near) if groups.seems_to_hold(v, u)), None)
        return last is not None and last not in above

    def _names_section(self, u: int) -> Lead | None:
        """As what kind of lead a unit says where others are, if it is one that does."""
        kind = self.groups.kinds.get(u)
        return kind if kind == "heading" or (kind == "code" and u in self.groups.leads) else None

    def _offer_group(self, u: int, group: tuple[int, ...], careful: bool) -> bool:
        careful = careful and self._trials_left > 0
        room, doubt = self.limit - self.used_tokens, _DOUBT_TOKENS + self._uncounted_groups
        cost = self._estimate_added_tokens(group)
        if cost > room + doubt:
            return False
        may_leave_out = self.limit < math.inf and not self.renderer.rules.fill
        if may_leave_out and u not in self.mandatory and self._is_misplaced(group):
            for lead in self.groups.ancestors(u):
                self._misplaced.setdefault(lead, []).append(u)
            return False
        if careful or cost > room - doubt:
            if not self._uncounted_groups:
                return self._take_if_it_fits(group)
            self.enforce_limit()
            return self._offer_group(u, group, careful)  # now all is counted, the estimate may do
        self._take(group, cost)
        self._uncounted_groups += 1
        return True

    def take_placed(self) -> list[int]:
        """Those units that were misplaced, and have since got a lead of their section kept."""
        placed, self._has_place = self._has_place, []
        return placed

    def offer_waiting(self, candidates: Iterable[int]) -> None:
        """Offers the leads that waited, for those of the units that are kept."""
        for u in candidates:
            if u in self.kept_units:
                for lead, bond in self.groups.shown_with(u):
                    if bond == 1 and self.groups.waits(lead, u):
                        self.offer(lead)

    def take_all(self, candidates: Sequence[int]) -> bool:
        """Takes all candidates if they fit together: with elisions, a part may be longer."""
        surplus = sum(self.unit_tokens[u] for u in candidates) - self.limit
        if self._near_duplicates or surplus > _DOUBT_TOKENS * len(candidates):
            return False
        tokens = self.count_tokens(candidates)
        if tokens > self.limit:
            return False
        self._take(tuple(sorted(candidates)), tokens)
        return True

    def is_empty_lead(self, u: int) -> bool:
        """Whether a unit is a lead with no kept unit below it that says something."""
        return u in self.groups and not self._kept_below[u]

    def top_up(self, eligible: Sequence[int]) -> None:
        """Offers the units until none fits: what was given back or elided may have made room."""
        while any([self.offer(u, careful=True) for u in eligible]):
            pass
        self.enforce_limit()

    def is_near_duplicate(self, u: int) -> bool:
        """Whether `rules.dedup` leaves a unit out because a kept one has its text, or nearly the
        same words."""
        if self._near_duplicates is None or u in self.mandatory:
            return False
        repeated = self.repeats.get(u) in self.kept_units
        return repeated or self._near_duplicates.is_near_duplicate(u)

    def release(self, units: Collection[int]) -> None:
        """Gives these units back, whatever was taken after them."""
        groups = ((tuple(u for u in group if u not in units), cost) for group, cost in self._taken)
        self._taken = [(group, cost) for group, cost in groups if group]
        self._discard(units)
        self.used_tokens, self._uncounted_groups = self.count_tokens(self.kept_units), 0

    def enforce_limit(self) -> None:
        """Counts the joined text; if it is over the limit, gives back what was taken last."""
        if self._uncounted_groups:
            self.used_tokens, self._uncounted_groups = self.count_tokens(self.kept_units), 0
        while self.used_tokens > self.limit:
            over = self.used_tokens - self.limit
            while over > 0 and self._taken:
                group, cost = self._taken.pop()
                self._discard(group)
                over -= max(1, cost)
            self.used_tokens = self.count_tokens(self.kept_units)

    def count_tokens(self, chosen: Collection[int]) -> int:
        """The tokens of these units as rendered and joined."""
        check_interruption()
        text = self.renderer.text(chosen)
        self._chars_left -= len(text)
        return self.counter.count(text)

    def unit_with_leads(self, u: int) -> tuple[int, ...]:
        """A unit after those leads that it is never shown without and that are not kept yet."""
        leads = [lead for lead, bond in self.groups.shown_with(u) if bond == 2]
        return (*sorted(lead for lead in leads if lead not in self.kept_units), u)

    def _groups_with(self, u: int) -> list[tuple[int, ...]]:
        """The groups that a unit may be taken in: with all its leads, with fewer, with the fewest.

        The one of the lowest value is left out first, of equal ones the outermost; those that wait
        are in none.
        """
        shown = [(v, bond) for v, bond in self.groups.shown_with(u) if v not in self.kept_units]
        leads = [v for v, bond in shown if bond == 2]
        free = [v for v, bond in shown if bond < 2 and not self.groups.waits(v, u)]
        values = self.groups.values
        free.sort(key=lambda v: -values[v] if values else 0.0)
        groups = [(*sorted([*leads, *free[:n]]), u) for n in range(len(free), -1, -1)]
        parted = leads and all(self.groups.may_stand_without(u, v) for v in leads)
        if parted and self._is_too_long(groups[-1]):
            groups.append((u,))  # no room would be enough: without its lead, or not at all
        return groups

    def _is_too_long(self, group: tuple[int, ...]) -> bool:
        """Whether a group would not fit if nothing else was kept."""
        tokens = sum(self.unit_tokens[v] for v in group)
        if abs(tokens - self.limit) <= _DOUBT_TOKENS * len(group) and self._trials_left:
            tokens = self.count_tokens(group)
        return tokens > self.limit

    def fewest_tokens(self, candidates: Iterable[int]) -> int:
        """The fewest tokens that any of these units has, kept alone."""
        groups = ((u,) if self._is_row(u) else self.unit_with_leads(u) for u in candidates)
        shortest = nsmallest(64, groups, key=lambda g: (self._estimate_added_tokens(g), g))
        return min(self.count_tokens(group) for group in shortest)

    def _kept_near(self, group: tuple[int, ...], reach: int) -> list[int]:
        """The kept units that stand next to those of a group that is not kept, ascending."""
        places = [bisect_left(self._kept_in_order, u) for u in group]
        return sorted(
            {u for at in places for u in self._kept_in_order[max(0, at - reach) : at + reach]}
        )

    def _estimate_added_tokens(self, group: tuple[int, ...]) -> int:
        """Estimates how many tokens a group adds."""
        passage = self.renderer.units[group[0]].passage
        near = [u for u in self._kept_near(group, 1) if self.renderer.units[u].passage == passage]
        cost = sum(self.unit_tokens[u] for u in group)
        cost += self._joint_tokens(sorted([*near, *group])) - self._joint_tokens(near)
        if near:
            return cost
        separator = self.renderer.rules.separator if self.kept_units else ""
        return cost + self._prefix_tokens(separator + self.renderer.passage_prefix(group[0]))

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

    def _take_if_it_fits(self, group: tuple[int, ...]) -> bool:
        """Takes a group if it fits by the count of the joined text; returns whether it did."""
        if self._chars_left <= 0:
            self._trials_left = 0
        if not self._trials_left or group in self._too_long:
            return False
        # in another order than the input's, a unit's neighbours in the output are other ones
        reordered = self.renderer.rules.order != "original" and len(self.renderer.passages) > 1
        if reordered or self.used_tokens + self._count_added_tokens(group) <= self.limit:
            tokens = self.count_tokens(self.kept_units | set(group))
            if tokens <= self.limit:
                self._take(group, tokens - self.used_tokens)
                return True
        self._too_long.add(group)
        self._trials_left -= 1
        return False

    def _count_added_tokens(self, group: tuple[int, ...]) -> int:
        """Counts how many tokens a group adds to the text around it."""
        near = self._kept_near(group, _REACH_UNITS)
        return self.count_tokens([*near, *group]) - self.count_tokens(near)

    def _take(self, group: tuple[int, ...], cost: int) -> None:
        self._taken.append((group, cost))
        self.used_tokens += cost
        self.kept_units.update(group)
        self._too_long.clear()
        for u in group:
            insort(self._kept_in_order, u)
            if (kind := self._names_section(u)) is not None:
                insort(self._kept_leads[kind], u)
                self._has_place += self._misplaced.pop(u, [])
            self.passage_tokens[self.renderer.units[u].passage] += self.unit_tokens[u]
            self._count_below(u, 1)
            if self._near_duplicates:
                self._near_duplicates.add(u)

    def _discard(self, units: Collection[int]) -> None:
        self.kept_units.difference_update(units)
        self._too_long.clear()
        for u in units:
            self._kept_in_order.remove(u)
            if (kind := self._names_section(u)) is not None:
                self._kept_leads[kind].remove(u)
            self.passage_tokens[self.renderer.units[u].passage] -= self.unit_tokens[u]
            self._count_below(u, -1)
            if self._near_duplicates:
                self._near_duplicates.remove(u)

    def _count_below(self, u: int, change: int) -> None:
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
