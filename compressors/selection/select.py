"""Which units are kept: the best that fit, counted with the tokenizer of the budget.

Greedy by worth, up to the first that does not fit (`packer.py`); the room that is left goes to good
units behind it. What is kept or dropped as one is the rules' granularity:

    sentence  what methods score                         the units as they are
    block     a paragraph, list, table, listing          scored by its sentences, kept by the best
    document  a document, such as an example of a task   likewise
    token     a word, a character of scripts without     scored by methods that can read one
              spaces

The probes were fitted on sentences alone. A block or a document has the score of its best sentence,
which stays a probability; a word is scored by attention alone.

Examples of a task, given as documents with the new input as the question and chosen whole, are the
selection half of FocusICL (arXiv 2408.13987, §3), where each example is read apart and the share of
attention that it gets decides. Departures: nothing inside an example is masked, so its answer stays
with it; outputs of several batches of examples are not merged, which takes a generator.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, pairwise, takewhile
from operator import itemgetter

from tamis.compressors.rules import (
    PLAIN_ORDERS,
    WORTHLESS,
    Budget,
    Granularity,
    Pattern,
    Rules,
    compile_protect,
)
from tamis.compressors.selection.packer import BudgetPacker
from tamis.compressors.selection.rendering import Renderer, render_without_citations
from tamis.compressors.types import Scores, SelectedUnits, check_values, passage_runs
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import KINDS, Passage, Unit

RELATIVE_FLOOR = 0.01
"""What is worth less than this share of the best unit is not kept merely because there is room."""
HALF_AS_GOOD = 0.5
"""A unit that did not fit is worth a warning from this share of the best unit's worth on."""
ROOM_FLOOR = 0.3
"""Behind the first that does not fit, what is worth this share of the best unit gets the room."""


def select(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    values: Sequence[float],
    passage_scores: Sequence[float],
    budget: Budget,
    rules: Rules,
    counter: TextTokenizer,
    arrangement: Sequence[int] | None = None,
    calibrated: bool = False,
) -> SelectedUnits:
    """The units of highest value that fit into the budget, and their text.

    `counter.count(selection.text) == selection.tokens`, headings, separators and elisions included,
    and units are taken in one order, up to the first that does not fit: a larger budget that holds
    the best unit loses none of these. What still fits of the units worth at least `ROOM_FLOOR`
    of the best takes the room that is left. Mandatory units (touched by
    `Passage.keep` or matching `Rules.protect`) come first, then each passage's `min_tokens`, then
    the rest by worth (`groups.py`), each followed by its neighbours within
    `Rules.context_window`. A unit comes with the leads that it is shown with, and a lead is not
    kept without anything below it, unless it is mandatory. Of calibrated units those are left out,
    too, that are worth less than `WORTHLESS` or a hundredth of the best; the best is kept whatever
    it is worth. With `Rules.fill` no unit left out would still fit, and a larger budget may lose
    what filled the room. Under a threshold, units of lower value are left out, unless they lead to
    what is kept.

    Args:
        passages: the input.
        units: all units of all passages, passage by passage, in text order.
        values: one per unit; equal values are taken from the front.
        passage_scores: one per passage.
        budget: tokens or a share of the context's, a threshold, or both.
        rules: how units are chosen and shown.
        counter: the tokenizer that the budget is counted in.
        arrangement: the indices of all passages in the order of the output; needed where
            `rules.order` is an ordering method's name.
        calibrated: whether the values are probabilities.

    Raises:
        BudgetTooSmall: not even one unit fits.
        BadInput: a value is missing or not finite, or a rule cannot be followed.
    """
    selector = Selector(
        passages, units, values, passage_scores, rules, counter, arrangement, calibrated
    )
    return selector.select(budget)


class Selector:
    """Selects from the same values under several budgets; arguments as for `select`.

    What does not depend on the budget is computed once.

    Raises:
        BadInput: a value is missing or not finite, or a rule cannot be followed.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        values: Sequence[float],
        passage_scores: Sequence[float],
        rules: Rules,
        counter: TextTokenizer,
        arrangement: Sequence[int] | None = None,
        calibrated: bool = False,
    ) -> None:
        check_values(values, len(units), "values", "units")
        check_values(passage_scores, len(passages), "passage scores", "passages")
        if rules.order not in PLAIN_ORDERS and arrangement is None:
            raise BadInput(
                f"order is {rules.order!r}; give original, score or edges, or arrangement"
            )
        self.values, self.calibrated = list(values), calibrated
        self.ranking = sorted(range(len(passages)), key=lambda p: (-passage_scores[p], p))
        renderer = Renderer(passages, units, rules, self.ranking, arrangement)
        mandatory = _mandatory_units(renderer, [*map(compile_protect, rules.protect)])
        filled = {unit.passage for unit in units}
        best = set([p for p in self.ranking if p in filled][: rules.top_n])
        shown = mandatory | {u for u, unit in enumerate(units) if unit.passage in best}
        self._packer = BudgetPacker(renderer, counter, math.inf, mandatory)
        for one, other in self._packer.halves:
            self.values[one] = self.values[other] = max(self.values[one], self.values[other])
        self.worths = worths = self._packer.groups.worths(self.values, calibrated)
        repeats = self._packer.repeats
        for u, whole in repeats.items():
            if units[whole].kind != "code":  # a listing is long, and its line may be all there is
                worths[whole] = max(worths[whole], worths[u])
        ordered = sorted(
            range(len(units)), key=lambda u: (-worths[u], u in repeats, -self.values[u], u)
        )
        self.candidates = [u for u in ordered if u in shown]

    def select(self, budget: Budget) -> SelectedUnits:
        """The units of highest value that fit into a budget, and their text.

        Raises:
            BudgetTooSmall: not even one unit fits.
        """
        renderer, candidates = self._packer.renderer, self.candidates
        if not renderer.units:
            return SelectedUnits((), "", 0)
        rules, tokens_in = renderer.rules, 0
        if budget.ratio is not None:
            whole = render_without_citations(renderer.passages, renderer.units, rules)
            tokens_in = self._packer.counter.count(whole)
        limit = budget.tokens(tokens_in)
        packer = self._packer.with_limit(math.inf if limit is None else limit)
        floor = -math.inf
        if budget.threshold is not None:
            floor = budget.threshold
            useful = [u for u in candidates if self.values[u] >= floor]
        else:
            useful = candidates if limit is None else self._useful(candidates)
        every = len(candidates) == len(renderer.units)  # else neighbours may be none of them
        is_all = every and len({*useful} | packer.groups.vain) == len(candidates)
        if floor == -math.inf and (rules.fill or is_all):
            packer.take_all(candidates)
        if not packer.kept_units:
            _take_steps(packer, self._steps(packer, useful))
        if not packer.kept_units and floor == -math.inf:  # nothing of use is short enough
            useful = [u for u in candidates if u not in packer.groups.vain] or candidates
            _take_steps(packer, self._steps(packer, useful))
        if rules.fill:  # what leads to nothing, too; counted one by one only where room is short
            kinds, wanted = packer.groups.kinds, candidates if floor == -math.inf else useful
            rest = [u for u in wanted if kinds.get(u) != "key"]
            more = (u for u in rest if not packer.is_near_duplicate(u))
            _take_steps(packer, map(packer.unit_with_leads, more))
        packer.close()
        in_order = packer.kept_units.copy()
        if rules.fill:
            packer.top_up(rest)
        else:
            self._use_room(packer, useful)
        return _make_selection(self, packer, useful, floor, in_order)

    def _use_room(self, packer: BudgetPacker, useful: Sequence[int]) -> None:
        """Takes what still fits: of mandatory units, of `min_tokens` of passages, of good units."""
        least = ROOM_FLOOR * max((self.worths[u] for u in useful), default=0.0)
        good = takewhile(lambda u: self.worths[u] >= least, useful)
        wanted = (u for u in good if not packer.is_unwanted(u))
        for step in chain(self._first_steps(packer), map(packer.unit_with_leads, wanted)):
            packer.take(step)
        packer.close()

    def _first_steps(self, packer: BudgetPacker) -> Iterator[Sequence[int]]:
        """What comes before the best: what is mandatory, then each passage's `min_tokens`."""
        for u in self.candidates:
            if u in packer.mandatory:
                yield packer.unit_with_leads(u)
        yield from _steps_to_min_tokens(packer, self.candidates, self.ranking)

    def _steps(self, packer: BudgetPacker, useful: Sequence[int]) -> Iterator[Sequence[int]]:
        """What is taken one after the other, whatever the budget, while it fits.

        First what is mandatory and each passage's `min_tokens`, then the units by worth. A unit
        comes with the leads that it is never shown without, before its short leads and its
        neighbours within the window of the rules.
        """
        groups = packer.groups
        yield from self._first_steps(packer)
        # where leads are all there is, as in a table of contents, they are taken as they are
        plain = all(u in groups for u in useful)
        best = [u for u in useful if plain or u not in groups][:1]
        wanted = {*useful}
        for u in [*best, *useful]:
            if u not in packer.kept_units:
                if packer.is_unwanted(u, plain):
                    continue
                yield packer.unit_with_leads(u)
                if not packer.kept_units:
                    # with all its leads it is longer than the budget
                    yield packer.unit_with_leads(u, 3)
            if u in packer.kept_units:  # be it by the rules, or beside another
                yield from self._steps_around(packer, u, wanted, plain)

    def _steps_around(
        self, packer: BudgetPacker, u: int, wanted: Container[int], plain: bool
    ) -> Iterator[Sequence[int]]:
        """What is taken after a kept unit: its short leads, and its neighbours."""
        if plain or not packer.is_empty_lead(u):
            yield from ([lead] for lead in packer.short_leads(u))
            # what is above it and worth more led to nothing when its turn came
            for above in packer.groups.ancestors(u):
                if above in wanted and self.worths[above] >= self.worths[u]:
                    yield packer.unit_with_leads(above)
        renderer = packer.renderer
        for near in _neighbours(renderer.units, u, renderer.rules.context_window):
            if not packer.is_unwanted(near, plain):
                yield packer.unit_with_leads(near)

    def _useful(self, candidates: Sequence[int]) -> list[int]:
        """The candidates that are of use: content, then leads; those of any worth."""
        groups, worths = self._packer.groups, self.worths
        content = [u for u in candidates if u not in groups and u not in groups.vain]
        if not content:
            return list(candidates)
        floor = -math.inf
        if self.calibrated and not self._packer.renderer.rules.fill:
            floor = max(WORTHLESS, RELATIVE_FLOOR * worths[content[0]])
        useful = [u for u in candidates if worths[u] >= floor and u not in groups.vain]
        return useful if any(u not in groups for u in useful) else content[:1]


def _take_steps(packer: BudgetPacker, steps: Iterable[Sequence[int]]) -> None:
    """Takes steps up to the first that does not fit; those before any fits are passed over."""
    for step in steps:
        if not packer.take(step) and packer.kept_units:
            return


def _steps_to_min_tokens(
    packer: BudgetPacker, candidates: Sequence[int], ranking: Sequence[int]
) -> Iterator[Sequence[int]]:
    """The best units of each passage with `min_tokens`, until it has that many tokens."""
    units, passages = packer.renderer.units, packer.renderer.passages
    members: dict[int, list[int]] = {p: [] for p in ranking if passages[p].min_tokens}
    for u in candidates:
        if (passage := units[u].passage) in members:
            members[passage].append(u)
    for passage, best_first in members.items():
        for u in best_first:
            if packer.passage_tokens[passage] >= passages[passage].min_tokens:
                break
            if u not in packer.kept_units and not packer.is_unwanted(u):
                yield packer.unit_with_leads(u)


def _min_tokens_warnings(
    packer: BudgetPacker, candidates: Sequence[int], best: Sequence[int]
) -> Iterator[str]:
    """The warnings of passages that have less than was asked for, and of a best unit that their
    share leaves no room."""
    units, passages = packer.renderer.units, packer.renderer.passages
    left_out = {units[u].passage for u in candidates if u not in packer.kept_units}
    asked = {p: one.min_tokens for p, one in enumerate(passages) if one.min_tokens}
    short = [p for p, least in asked.items() if p in left_out and packer.passage_tokens[p] < least]
    if short and packer.limit < math.inf:
        first = short[0]
        yield (
            f"{len(short)} of {len(asked)} passages keep fewer tokens than their min_tokens "
            f"(passage {first}: {packer.passage_tokens[first]} of {asked[first]}); raise the "
            f"budget of {packer.limit:.0f}, or ask for less"
        )
        return
    owner = units[best[0]].passage if best and best[0] not in packer.kept_units else None
    if asked and owner is not None and owner not in asked:
        yield (
            f"the best sentence, of passage {owner}, was left out: min_tokens of other passages "
            f"take its room; raise the budget of {packer.limit:.0f}"
        )


def _neighbours(units: Sequence[Unit], u: int, reach: int) -> Iterator[int]:
    """Units of the same passage around `u`, the nearest first."""
    for distance in range(1, min(reach, len(units)) + 1):
        for near in (u - distance, u + distance):
            if 0 <= near < len(units) and units[near].passage == units[u].passage:
                yield near


def _make_selection(
    of: Selector, packer: BudgetPacker, eligible: Sequence[int], floor: float, in_order: set[int]
) -> SelectedUnits:
    candidates, warnings = of.candidates, []
    content = [u for u in eligible if u not in packer.groups] or list(eligible)
    if not packer.kept_units and not eligible:
        warnings.append(
            f"none of {len(candidates)} sentences reaches the threshold {floor:g}; nothing is kept"
        )
    elif not packer.kept_units:
        shortest = packer.fewest_tokens(content)  # a lead alone would be given back
        raise BudgetTooSmall(
            f"the shortest sentence has {shortest} tokens as rendered and the budget is "
            f"{int(packer.limit)}; raise the budget"
        )
    if left_out := len(packer.mandatory - packer.kept_units):
        needed = packer.count_tokens(set().union(*map(packer.unit_with_leads, packer.mandatory)))
        warnings.append(
            f"{len(packer.mandatory)} sentences are mandatory and take {needed} tokens, the "
            f"budget is {int(packer.limit)}; {left_out} of them were left out; raise the budget or "
            "protect less"
        )
    warnings += _min_tokens_warnings(packer, candidates, content[:1])
    if content and content[0] not in packer.kept_units:
        needed = packer.count_tokens(packer.unit_with_leads(content[0]))
        if needed > packer.limit:
            warnings.append(
                f"the best sentence has {needed} tokens as rendered, the budget is "
                f"{int(packer.limit)}, and it was left out; raise the budget to keep it"
            )
    elif of.calibrated and math.isfinite(packer.limit) and floor == -math.inf:
        warnings += _room_warnings(packer, content, of.worths, in_order)
    if math.isfinite(packer.limit) and math.isfinite(floor):
        missing = [
            u for u in eligible if u not in packer.kept_units and not packer.is_near_duplicate(u)
        ]
        if missing:
            warnings.append(
                f"{len(missing)} of {len(eligible)} sentences of at least {floor:g} were left out: "
                f"the limit is {int(packer.limit)} tokens; raise it to keep what the floor asks for"
            )
    text = packer.renderer.text(packer.kept_units)
    return SelectedUnits(
        tuple(sorted(packer.kept_units)), text, int(packer.used_tokens), tuple(warnings)
    )


def _room_warnings(
    packer: BudgetPacker, content: Sequence[int], worths: Sequence[float], in_order: set[int]
) -> Iterator[str]:
    """Says that a unit nearly as good as the best was left out for room, and what would hold it.

    Args:
        in_order: what is kept, but for what has the room behind the first that does not fit.
    """
    wanted = set(in_order)
    for u in content:
        share = worths[u] / worths[content[0]] if worths[content[0]] else 0.0
        if share < HALF_AS_GOOD:
            return
        if u not in packer.kept_units and packer.is_near_duplicate(u):
            continue
        wanted |= {*packer.unit_with_leads(u), *packer.short_leads(u)}
        if u not in packer.kept_units:
            needed = packer.count_tokens(wanted)
            if needed > packer.limit:
                yield (
                    f"a sentence {share:.0%} as good as the best was left out for room, the "
                    f"budget is {int(packer.limit)}; {needed} tokens would hold it"
                )
            return


def _mandatory_units(renderer: Renderer, patterns: Sequence[Pattern]) -> set[int]:
    """Units that overlap a span to keep, or match a protected pattern."""
    spans = [merge_spans(passage.keep) for passage in renderer.passages]
    return {
        u
        for u, unit in enumerate(renderer.units)
        if overlaps(spans[unit.passage], unit.start, unit.stop)
        or any(pattern.search(renderer.visible_text(u)) for pattern in patterns)
    }


Span = tuple[int, int]
_STOP = itemgetter(1)


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """The union, ascending and disjoint: spans that touch become one, empty ones are left out."""
    merged: list[Span] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged


def overlaps(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether `[start:stop]` shares a character with one of the spans, ascending and disjoint."""
    found = _next_span(spans, start)
    return found is not None and found[0] < stop


def contains(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Whether `[start:stop]` lies in one of the spans, ascending and disjoint."""
    found = _next_span(spans, start)
    return found is not None and found[0] <= start and stop <= found[1]


def _next_span(spans: Sequence[Span], at: int) -> Span | None:
    """The first span that ends after a place."""
    found = bisect_right(spans, at, key=_STOP)
    return spans[found] if found < len(spans) else None


_BLANK_LINE = re.compile(r"\n\s*\n")
# ideographs, kana, hangul and Thai are written without spaces, or with few
_WORD = re.compile(r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|\S")
_SPACED = re.compile(r"[^\s\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+")


def split_words(passages: Sequence[Passage], units: Sequence[Unit]) -> list[Unit]:
    """Splits each unit into words that cover it without gaps.

    A word has the white space after it. A table's header row stays whole: it is shown wherever one
    of the table's words is.
    """
    return [
        word
        for unit in units
        for word in (
            [unit]
            if unit.kind == "table_header"
            else _split_unit(passages[unit.passage].text, unit)
        )
    ]


def _split_unit(text: str, unit: Unit) -> Iterator[Unit]:
    first, last = unit.visible
    spans = list(_word_spans(text, first, last))
    edges = [unit.start, *(start for start, _ in spans[1:]), unit.stop]
    for visible, (start, stop) in zip(spans, pairwise(edges), strict=True):
        yield replace(unit, start=start, stop=stop, visible=visible)


def _word_spans(text: str, at: int, stop: int) -> Iterator[tuple[int, int]]:
    while match := _WORD.search(text, at, stop):
        long = _SPACED.match(text, match.start(), stop)
        at = long.end() if long else match.end()
        yield match.start(), at


def merge_units(
    granularity: Granularity, passages: Sequence[Passage], units: Sequence[Unit], scores: Scores
) -> tuple[list[Unit], Scores]:
    """The units joined to blocks or documents, each with the best score among its own.

    A document is prose, whatever it begins with: a heading would be kept for what follows it. So is
    a table: its header alone would be kept for its rows.
    """
    whole = granularity == "document"
    merged, values = [], []
    for start, stop in passage_runs(units) if whole else _block_runs(passages, units):
        first, last = units[start], units[stop - 1]
        is_table = first.kind == "table_header" and stop - start > 1
        kind = "sentence" if whole or is_table else first.kind
        visible = first.visible[0], last.visible[1]
        merged.append(replace(first, stop=last.stop, visible=visible, kind=kind))
        values.append(max(scores.values[start:stop]))
    return merged, replace(scores, values=tuple(values))


def _block_runs(passages: Sequence[Passage], units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
    """Half-open runs of units that make one block."""
    start = 0
    for u in range(1, len(units) + 1):
        if u == len(units) or _begins_block(passages, units[u - 1], units[u]):
            yield start, u
            start = u


def _begins_block(passages: Sequence[Passage], before: Unit, after: Unit) -> bool:
    """Whether a new block begins: another passage or kind, or a blank line of prose or list."""
    if before.passage != after.passage:
        return True
    here, there = (KINDS[unit.kind].block for unit in (before, after))
    gap = passages[after.passage].text[before.visible[1] : after.visible[0]]
    return here != there or after.kind == "table_header" or bool(_BLANK_LINE.search(gap))
