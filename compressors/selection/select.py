"""Which units stay: the best that fit, counted as the customer will count them.

Greedy by value, filled with skip: `_sieve` says what still fits.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from tamis.compressors.selection.order import PLAIN
from tamis.compressors.selection.packer import BudgetPacker
from tamis.compressors.selection.rendering import Sheet, given, render, whole
from tamis.compressors.types import Budget, Rules, Selection
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens

__all__ = ["given", "render", "select", "whole"]


def select(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    values: Sequence[float],
    passage_scores: Sequence[float],
    budget: Budget,
    rules: Rules,
    counter: Tokens,
    arrangement: Sequence[int] | None = None,
) -> Selection:
    """The units of highest value that fit into the budget, and their text.

    `counter.count(selection.text) == selection.tokens`, headings, separators and elisions included,
    and no eligible unit left out would still fit. Mandatory units (touched by `Passage.keep` or
    matching `Rules.protect`) come first, then each passage's `min_tokens`, then the rest by value,
    each followed by its neighbours within `Rules.context_window`. A table row brings its header.
    A heading or a table's header over nothing that is kept gives its room to text first, unless it
    is mandatory or the best unit of all. Under a threshold what lies below it is left out, and
    headings are units like others.

    Args:
        passages: the input.
        units: all units of all passages, passage by passage, in text order.
        values: one a unit; equal values are taken from the front.
        passage_scores: one a passage.
        budget: tokens or a share of the context's, a threshold, or both.
        rules: how units are chosen and shown.
        counter: the tokenizer that the budget is counted in.
        arrangement: every passage, as they shall follow each other; needed where `rules.order` is
            an ordering method's name.

    Raises:
        BudgetTooSmall: not even one unit fits.
        BadInput: a value is missing or not finite, or a rule cannot be followed.
    """
    _check(values, len(units), "values", "units")
    _check(passage_scores, len(passages), "passage scores", "passages")
    _check_rules(rules)
    if rules.order not in PLAIN and arrangement is None:
        raise BadInput(f"order is {rules.order!r}; give original, score or edges, or arrangement")
    ranking = sorted(range(len(passages)), key=lambda p: (-passage_scores[p], p))
    sheet = Sheet(passages, units, rules, ranking, arrangement)
    must = _mandatory(sheet, _patterns(rules))
    if not units:
        return Selection((), "", 0)
    tokens_in = 0 if budget.ratio is None else counter.count(given(passages, units, rules))
    limit = budget.tokens(tokens_in)
    sieve = BudgetPacker(sheet, counter, math.inf if limit is None else limit, must)
    walk = sorted(range(len(units)), key=lambda u: (-values[u], u))
    shown = must | _of_best_passages(sheet, ranking)
    walk = [u for u in walk if u in shown]
    floor = -math.inf if budget.threshold is None else budget.threshold
    free = [u for u in walk if values[u] >= floor]
    _fill(sieve, walk, free, ranking)
    return _selection(sieve, walk, free, floor)


def _fill(
    sieve: BudgetPacker, walk: Sequence[int], free: Sequence[int], ranking: Sequence[int]
) -> None:
    """Offers units in the order of the rules; `walk` is all that may be shown, best first."""
    floored = len(free) < len(walk)
    if sieve.limit < math.inf and not floored and sieve.take_all(walk):
        return
    for u in walk:
        if u in sieve.must:
            sieve.offer(u)
    _reach_minimums(sieve, walk, ranking)
    reach = sieve.sheet.rules.context_window
    for u in free:
        # a unit that is there already brings its neighbours when its own turn comes
        if sieve.offer(u) or (reach and u in sieve.held):
            for near in _neighbours(sieve.sheet.units, u, reach):
                sieve.offer(near)
    sieve.settle()
    if sieve.limit < math.inf:
        sieve.top_up(free)
        if not floored:
            _text_before_headings(sieve, free)


def _text_before_headings(sieve: BudgetPacker, free: Sequence[int]) -> None:
    """Gives back headings over nothing that is kept, and offers their room to the rest first."""
    fixed = sieve.must | set(free[:1])
    lone = sieve.sections.alone(sieve.held) - fixed
    if not lone:
        return
    sieve.release(lone)
    sieve.top_up([u for u in free if u not in sieve.sections])
    idle = sieve.sections.alone(sieve.held, free)
    sieve.top_up([u for u in free if u not in idle])
    sieve.top_up(free)


def _reach_minimums(sieve: BudgetPacker, walk: Sequence[int], ranking: Sequence[int]) -> None:
    """Takes the best units of each passage with `min_tokens`, until it has that many tokens."""
    sheet = sieve.sheet
    for passage in ranking:
        if not (least := sheet.passages[passage].min_tokens):
            continue
        members = [u for u in walk if sheet.units[u].passage == passage]
        for u in members:
            if sum(sieve.tokens[v] for v in members if v in sieve.held) >= least:
                break
            sieve.offer(u)


def _neighbours(units: Sequence[Unit], u: int, reach: int) -> Iterator[int]:
    """Units of the same passage around `u`, the nearest first."""
    for distance in range(1, min(reach, len(units)) + 1):
        for near in (u - distance, u + distance):
            if 0 <= near < len(units) and units[near].passage == units[u].passage:
                yield near


def _selection(
    sieve: BudgetPacker, walk: Sequence[int], free: Sequence[int], floor: float
) -> Selection:
    warnings = []
    if not sieve.held and not free:
        warnings.append(
            f"none of {len(walk)} units reaches the threshold {floor:g}; nothing is kept"
        )
    elif not sieve.held:
        shortest = sieve.shortest(free)
        raise BudgetTooSmall(
            f"the shortest unit has {shortest} tokens as rendered and the budget is "
            f"{int(sieve.limit)}; raise the budget"
        )
    if left := len(sieve.must - sieve.held):
        needed = sieve.count(set().union(*map(sieve.step, sieve.must)))
        warnings.append(
            f"{len(sieve.must)} units are mandatory and take {needed} tokens, the budget is "
            f"{int(sieve.limit)}; {left} of them were left out; raise the budget or protect less"
        )
    if free and free[0] not in sieve.held:
        needed = sieve.count(sieve.step(free[0]))
        if needed > sieve.limit:
            warnings.append(
                f"the best unit has {needed} tokens as rendered, the budget is "
                f"{int(sieve.limit)}, and it was left out; raise the budget to keep it"
            )
    short = [u for u in free if u not in sieve.held and not sieve.is_echo(u)]
    if short and math.isfinite(sieve.limit) and math.isfinite(floor):
        warnings.append(
            f"{len(short)} of {len(free)} units of at least {floor:g} were left out: the limit is "
            f"{int(sieve.limit)} tokens; raise it to keep what the floor asks for"
        )
    text = sieve.sheet.text(sieve.held)
    return Selection(tuple(sorted(sieve.held)), text, sieve.used, tuple(warnings))


def _mandatory(sheet: Sheet, patterns: Sequence[re.Pattern[str]]) -> set[int]:
    """Units that a span to keep touches, or a protected pattern matches."""
    kept = [_merged(passage.keep) for passage in sheet.passages]

    def touched(unit: Unit) -> bool:
        starts, stops = kept[unit.passage]
        first = bisect_right(stops, unit.start)  # the first span that ends behind the unit's start
        return first < len(starts) and starts[first] < unit.stop

    return {
        u
        for u, unit in enumerate(sheet.units)
        if touched(unit) or any(pattern.search(sheet.visible(u)) for pattern in patterns)
    }


def _merged(spans: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Starts and stops of spans, ascending and apart; empty ones touch nothing."""
    starts: list[int] = []
    stops: list[int] = []
    for start, stop in sorted(span for span in spans if span[0] < span[1]):
        if stops and start <= stops[-1]:
            stops[-1] = max(stops[-1], stop)
        else:
            starts.append(start)
            stops.append(stop)
    return starts, stops


def _of_best_passages(sheet: Sheet, ranking: Sequence[int]) -> set[int]:
    """Units of the best `top_n` passages that have any."""
    filled = {unit.passage for unit in sheet.units}
    best = set([p for p in ranking if p in filled][: sheet.rules.top_n])
    return {u for u, unit in enumerate(sheet.units) if unit.passage in best}


def _patterns(rules: Rules) -> list[re.Pattern[str]]:
    return [_compiled(pattern) for pattern in rules.protect]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise BadInput(
            f"protect has {pattern!r}, which is no regular expression ({error}); "
            "escape characters that are meant literally with a backslash"
        ) from error


def _check(values: Sequence[float], expected: int, what: str, of: str) -> None:
    if len(values) != expected:
        raise BadInput(f"got {len(values)} {what} for {expected} {of}; give one each")
    if wrong := [i for i, value in enumerate(values) if not math.isfinite(value)]:
        raise BadInput(
            f"{len(wrong)} of {expected} {what} are not finite, the first is "
            f"{values[wrong[0]]} at {wrong[0]}; give finite numbers"
        )


def _check_rules(rules: Rules) -> None:
    if rules.context_window < 0:
        raise BadInput(f"context_window is {rules.context_window}; give 0 or more units")
    if rules.dedup is not None and not 0 < rules.dedup <= 1:
        raise BadInput(f"dedup is {rules.dedup}; give a share above 0 and up to 1, or None")
    if rules.top_n is not None and rules.top_n < 1:
        raise BadInput(f"top_n is {rules.top_n}; give at least 1 passage, or None")
