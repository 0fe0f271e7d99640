"""Units taken one by one while they fit, counted as the joined text will be.

Tokens of a joined text are not the sum of its parts' tokens, so a unit is decided by what is sure
enough:

    estimate   the unit's own tokens, its passage's heading, the elisions it opens or closes
    window     where the estimate is in doubt: the text around the unit, counted with and without it
    joined     before a unit in doubt is taken, and at the end: the whole output, counted

The last keeps the result within the budget, the first two leave out no unit that would still fit.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from heapq import nsmallest
from itertools import pairwise

from tamis.compressors.selection.rendering import Sheet
from tamis.compressors.selection.sections import Sections
from tamis.probes.segmentation.terms import words
from tamis.probes.tokens import Tokens

# a unit has two ends, and a heading one more, at which tokens may merge or split
_DOUBT_TOKENS = 3
# chosen units on either side of a window
_REACH_UNITS = 2
# windows that may fail: bounds the time where thousands of units are a token too long; past it
# only units that surely do not fit are known not to
_TRIALS = 1000
_ECHO_WORDS = 4
_HAIR = 1e-9


class BudgetPacker:
    """Units that were taken so far, and what there is still room for.

    Attributes:
        held: the units taken. must: those that no rule but the limit keeps out.
        sections: what headings and table headers head.
        used: their tokens as joined; an estimate until `settle`.
        tokens: per unit, its own, about.
    """

    def __init__(self, sheet: Sheet, counter: Tokens, limit: float, must: set[int]) -> None:
        self.sheet, self.counter, self.limit, self.must = sheet, counter, limit, must
        self.held: set[int] = set()
        self.used = 0
        everything = range(len(sheet.units))
        self.tokens = counter.count_many([sheet.piece(u) for u in everything])
        self._leads: dict[str, int] = {}
        for u in everything:
            if blank := sheet.lead(u):
                self.tokens[u] -= self._lead(blank)
        rules = sheet.rules
        self._elision_tokens = self._lead(f" {rules.elision} ") if rules.elision else 0
        self._echoes = Echoes(map(sheet.visible, everything), rules.dedup) if rules.dedup else None
        self.sections = Sections(sheet.units)
        self._ordered: list[int] = []
        self._steps: list[tuple[tuple[int, ...], int]] = []
        self._refused: set[int] = set()
        self._loose = 0  # steps taken by estimate since the last count
        self._trials = _TRIALS

    def offer(self, u: int, careful: bool = False) -> bool:
        """Takes a unit, with its table header, if it fits and is no echo of one taken before.

        Args:
            careful: count the joined text before it is taken, however sure the estimate is.
        """
        if u in self.held:
            return False
        room, doubt = self.limit - self.used, _DOUBT_TOKENS + self._loose
        # the cheap half of the estimate first: most units end here once the budget is nearly full
        if self.tokens[u] - self._elision_tokens > room + doubt:
            return False
        step = self.step(u)
        cost = self._cost(step)
        if cost > room + doubt or self.is_echo(u):
            return False
        if careful or cost > room - doubt:
            return self._try(u)
        self._add(step, cost)
        self._loose += 1
        return True

    def take_all(self, walk: Sequence[int]) -> bool:
        """Takes everything if it fits together: a part with elisions may be longer."""
        surplus = sum(self.tokens[u] for u in walk) - self.limit
        if self._echoes or surplus > _DOUBT_TOKENS * len(walk):
            return False
        tokens = self.count(walk)
        if tokens > self.limit:
            return False
        self.held, self.used = set(walk), tokens
        return True

    def top_up(self, free: Sequence[int]) -> None:
        """Offers what is left until nothing fits: what was dropped or elided may have made room."""
        while any([self.offer(u, careful=True) for u in free]):
            pass

    def is_echo(self, u: int) -> bool:
        """Whether the rules drop a unit, since one taken says the same."""
        return self._echoes is not None and u not in self.must and self._echoes.has(u)

    def release(self, units: Collection[int]) -> None:
        """Gives these back, whatever was taken after them."""
        steps = ((tuple(u for u in step if u not in units), cost) for step, cost in self._steps)
        self._steps = [(step, cost) for step, cost in steps if step]
        self._forget(units)
        self.used, self._loose = self.count(self.held), 0

    def settle(self) -> None:
        """Counts the joined text; if it is over the limit, gives back what was taken last."""
        if self._loose:
            self.used, self._loose = self.count(self.held), 0
        while self.used > self.limit:
            over = self.used - self.limit
            while over > 0 and self._steps:
                over -= max(1, self._drop())
            self.used = self.count(self.held)

    def count(self, chosen: Collection[int]) -> int:
        """Tokens of these units as rendered and joined."""
        return self.counter.count(self.sheet.text(chosen))

    def step(self, u: int) -> tuple[int, ...]:
        """What is taken together: a unit, after its table's header unless that is there already."""
        header = self.sections.headers.get(u)
        return (u,) if header is None or header in self.held else (header, u)

    def shortest(self, walk: Iterable[int]) -> int:
        """The fewest tokens that any of these units has, rendered alone."""
        steps = nsmallest(64, map(self.step, walk), key=lambda step: (self._cost(step), step))
        return min(self.count(step) for step in steps)

    def _around(self, u: int, reach: int) -> tuple[list[int], list[int]]:
        """The units taken just before and just after a unit that is not."""
        at = bisect_left(self._ordered, u)
        return self._ordered[max(0, at - reach) : at], self._ordered[at : at + reach]

    def _cost(self, step: tuple[int, ...]) -> int:
        """About how many tokens a step adds."""
        passage = self.sheet.units[step[0]].passage
        before, after = (
            [u for u in side if self.sheet.units[u].passage == passage]
            for side in self._around(step[0], 1)
        )
        cost = sum(self.tokens[u] for u in step)
        cost += self._joints([*before, *step, *after]) - self._joints([*before, *after])
        if before or after:
            return cost
        separator = self.sheet.rules.separator if self.held else ""
        return cost + self._lead(separator + self.sheet.heading(step[0]))

    def _joints(self, ordered: Iterable[int]) -> int:
        """About how many tokens stand between units of one passage."""
        return sum(self._lead(self.sheet.joint(u, v)) for u, v in pairwise(ordered))

    def _lead(self, text: str) -> int:
        """How many tokens a text adds before a word; a blank often none."""
        if text not in self._leads:
            self._leads[text] = self.counter.count(f"{text}a") - self.counter.count("a")
        return self._leads[text]

    def _try(self, u: int) -> bool:
        """Takes a unit if the joined text says that it fits."""
        self.settle()
        if not self._trials or u in self._refused:
            return False
        step = self.step(u)
        # in another order than the input's, neighbours in the text are not those in the input
        elsewhere = self.sheet.rules.order != "original"
        if elsewhere or self.used + self._added_tokens(step) <= self.limit:
            tokens = self.count(self.held | set(step))
            if tokens <= self.limit:
                self._add(step, tokens - self.used)
                return True
        self._refused.add(u)
        self._trials -= 1
        return False

    def _added_tokens(self, step: tuple[int, ...]) -> int:
        """How many tokens a step adds to the text around it, as counted."""
        before, after = self._around(step[0], _REACH_UNITS)
        return self.count([*before, *step, *after]) - self.count([*before, *after])

    def _add(self, step: tuple[int, ...], cost: int) -> None:
        self._steps.append((step, cost))
        self.used += cost
        self.held.update(step)
        self._refused.clear()
        for u in step:
            insort(self._ordered, u)
            if self._echoes:
                self._echoes.add(u)

    def _drop(self) -> int:
        """Gives back the last step; its cost."""
        step, cost = self._steps.pop()
        self._forget(step)
        return cost

    def _forget(self, units: Collection[int]) -> None:
        self.held.difference_update(units)
        self._refused.clear()
        for u in units:
            self._ordered.remove(u)
            if self._echoes:
                self._echoes.remove(u)


class Echoes:
    """Texts that were taken, asked for a near-duplicate by the Jaccard share of their word sets.

    Exact, and without comparing all pairs: two sets that share enough share one of their rarest
    words (prefix filtering; Bayardo, Ma, Srikant, "Scaling Up All Pairs Similarity Search", 2007).
    """

    def __init__(self, texts: Iterable[str], share: float) -> None:
        self._share = share
        self._words = [frozenset(words(text)) for text in texts]
        self._texts_with = Counter(word for words in self._words for word in words)
        self._taken: dict[str, set[int]] = defaultdict(set)

    def add(self, u: int) -> None:
        """Text `u` was taken."""
        for word in self._rarest(u):
            self._taken[word].add(u)

    def remove(self, u: int) -> None:
        """Text `u` was given back."""
        for word in self._rarest(u):
            self._taken[word].discard(u)

    def has(self, u: int) -> bool:
        """Whether a text taken before says the same as `u`; texts of few words say too little."""
        if len(self._words[u]) < _ECHO_WORDS:
            return False
        near = set().union(*(self._taken.get(word, ()) for word in self._rarest(u)))
        return any(self._jaccard(u, other) >= self._share - _HAIR for other in near)

    def _rarest(self, u: int) -> list[str]:
        words = self._words[u]
        common = math.ceil(self._share * len(words) - _HAIR)
        return nsmallest(len(words) - common + 1, words, key=lambda w: (self._texts_with[w], w))

    def _jaccard(self, u: int, v: int) -> float:
        one, other = self._words[u], self._words[v]
        return len(one & other) / len(one | other)
