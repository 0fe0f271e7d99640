"""Measures how many keys each selector has to read to find those that a query attends to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tamis_lab.bench.selectors.cases import SelectorCase
from tamis_lab.bench.selectors.fidelity import (
    UnitSpans,
    best_of,
    hit_weights,
    output_error,
)
from tamis_lab.methods.kv_search import registry as selector_registry
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.kv_search.shared_selector import Setting, SharedSelector
from tamis_lab.methods.kv_search.types import KeyHits

TOP_K = 100
BATCH_ROWS = 16
"""Queries of one timed search: about as many as one question has rows."""
BATCHES, PASSES = 10, 3
NARROWING_STEPS = 3
BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the keys that may be read, at which selectors are compared."""


@dataclass(frozen=True, slots=True)
class ExactReference:
    """Exact attention of a case's test queries.

    Attributes:
        exact: the exact index.
        ids: `[Q, K]`, the keys with the largest logits; all keys where there are fewer.
        lse: `[Q]`, log-sum-exp of all logits. outputs: `[Q, d]`, the values that attention reads.
        units: what keys belong to. unit_masses: their mean attention by question, `[B, U]`.
    """

    exact: ExactIndex
    ids: Tensor
    lse: Tensor
    outputs: Tensor
    units: UnitSpans
    unit_masses: Tensor


@dataclass(frozen=True, slots=True)
class EffortPoint:
    """The result of a selector at one effort.

    Attributes:
        recall_at_100: share of the 100 keys with the largest logits that the search found.
        attention_mass: share of the softmax over all keys that the found keys have, at most 100.
        mass_read: the same of all keys of the blocks read, for selectors that read whole blocks.
        output_error: of attention over the keys found, at most 100, see `fidelity`: comparable for
            all selectors. error_read: the same over what `mass_read` counts.
        unit_rho: rank correlation of units by attention over what `mass_read` counts, within the
            passage that a question attends to most; None where none has three units.
        share_of_keys_read: keys read for a query, as a share of all keys.
    """

    effort: int
    recall_at_100: float
    attention_mass: float
    mass_read: float
    output_error: float
    error_read: float
    unit_rho: float | None
    share_of_keys_read: float


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """One selector on one head, at the cheapest effort that reached the recall, else the largest.

    Attributes:
        head: as `layer.head`. point: at that effort. curve: every effort tried, ascending.
        budgets: at the largest effort within each of `BUDGETS`; None where the smallest exceeds it.
        ms: of a query, in batches of 16. exact_ms: the same for exact search, in alternation.
        build_s: seconds that building the index took.
    """

    head: str
    point: EffortPoint
    curve: tuple[EffortPoint, ...]
    budgets: tuple[EffortPoint | None, ...]
    ms: float
    exact_ms: float
    build_s: float


def exact_reference(case: SelectorCase, units: UnitSpans) -> ExactReference:
    """Exact search over the keys of a case."""
    exact = ExactIndex(case.keys)
    lse, outputs, sums = [], [], []
    for rows in torch.split(case.test, max(1, 2**24 // len(case.keys))):
        logits = rows @ case.keys.T
        weights = logits.softmax(1)
        lse.append(logits.logsumexp(1))
        outputs.append(weights @ case.values)
        sums.append(units.sums(weights))
    ids = exact.search(case.test, min(TOP_K, len(case.keys))).ids
    masses = units.masses(torch.cat(sums), case.questions)
    return ExactReference(exact, ids, torch.cat(lse), torch.cat(outputs), units, masses)


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """A selector and the heads that it searches at once: one, or all for one that shares a choice.

    Attributes:
        cases: in order of layer, with the same questions. passages: `[P, 2]` spans of keys.
    """

    name: str
    cases: Sequence[SelectorCase]
    references: Sequence[ExactReference]
    passages: Tensor

    def build(self) -> SharedSelector:
        """The selector over the keys of all cases."""
        values = torch.stack([case.values for case in self.cases])
        setting = Setting(values, self.passages, tuple(case.head[0] for case in self.cases))
        keys = torch.stack([case.keys for case in self.cases])
        train = torch.stack([case.train for case in self.cases])
        return selector_registry.build_shared_selector(self.name, keys, train, setting)

    def queries(self) -> Tensor:
        """`[S, Q, d]` test queries."""
        return torch.stack([case.test for case in self.cases])


def measure_group(group: HeadGroup, recall: float) -> list[HeadMeasurement]:
    """Builds a selector, finds the cheapest effort of mean recall `recall`, and times it.

    Beside it the largest effort within each of `BUDGETS` is found.
    """
    clock = time.perf_counter()
    selector = group.build()
    build_s = (time.perf_counter() - clock) / len(group.cases)
    queries, questions = group.queries(), group.cases[0].questions
    reads_blocks = selector_registry.SELECTORS.load(group.name).info.reads_blocks
    points: dict[int, list[EffortPoint]] = {}

    def try_effort(effort: int) -> list[EffortPoint]:
        if effort not in points:
            k = len(group.cases[0].keys) if reads_blocks else TOP_K
            hits = selector.search(queries, k, effort, questions)
            heads = zip(split_heads(hits), group.cases, group.references, strict=True)
            points[effort] = [effort_point(effort, *head) for head in heads]
        return points[effort]

    def reaches_recall(effort: int) -> bool:
        return statistics.fmean(p.recall_at_100 for p in try_effort(effort)) >= recall

    def exceeds(budget: float, effort: int) -> bool:
        return statistics.fmean(p.share_of_keys_read for p in try_effort(effort)) > budget

    best = cheapest_effort(selector.efforts, reaches_recall)
    within = [largest_effort(selector.efforts, partial(exceeds, budget)) for budget in BUDGETS]
    ms, exact_ms = time_searches(selector, best, group)
    return [
        HeadMeasurement(
            "{}.{}".format(*case.head),
            try_effort(best)[head],
            tuple(points[effort][head] for effort in sorted(points)),
            tuple(try_effort(effort)[head] if effort else None for effort in within),
            ms,
            exact_ms,
            build_s,
        )
        for head, case in enumerate(group.cases)
    ]


def split_heads(hits: KeyHits) -> list[KeyHits]:
    """The hits of each head, with an equal part of the keys read."""
    S = len(hits.ids)
    masses = [None] * S if hits.mass is None else list(hits.mass)
    heads = zip(hits.scores, hits.ids, masses, strict=True)
    return [KeyHits(scores, ids, hits.keys_read // S, mass) for scores, ids, mass in heads]


def largest_effort(efforts: Sequence[int], is_too_much: Callable[[int], bool]) -> int | None:
    """The largest of the efforts that is not too much; None if the smallest is."""
    fitting = None
    for effort in efforts:
        if is_too_much(effort):
            break
        fitting = effort
    return fitting


def cheapest_effort(efforts: Sequence[int], is_enough: Callable[[int], bool]) -> int:
    """The smallest effort that is enough, else the largest.

    The efforts are tried in order; the interval below the first that is enough is then bisected
    `NARROWING_STEPS` times.
    """
    below = 0
    for effort in efforts:
        if is_enough(effort):
            break
        below = effort
    else:
        return below
    for _ in range(NARROWING_STEPS if below else 0):
        middle = (below + effort) // 2
        if middle in (below, effort):
            break
        below, effort = (below, middle) if is_enough(middle) else (middle, effort)
    return effort


def effort_point(
    effort: int, hits: KeyHits, case: SelectorCase, reference: ExactReference
) -> EffortPoint:
    """Recall, attention mass and keys read of one search, compared with exact search."""
    best = best_of(hits, TOP_K)
    found = (best.ids[:, :, None] == reference.ids[:, None, :]).any(2)
    mass = (best.scores.logsumexp(1) - reference.lse).exp()
    sums = reference.units.sums(hit_weights(hits), hits.ids)
    masses = reference.units.masses(sums, case.questions)
    read = (hits.scores.logsumexp(1) - reference.lse).exp()
    return EffortPoint(
        effort,
        float(found.sum(1).float().mean()) / reference.ids.shape[1],
        float(mass.mean()),
        float(read.mean()),
        output_error(best, case.values, reference.outputs),
        output_error(hits, case.values, reference.outputs),
        reference.units.rank_correlation(masses, reference.unit_masses),
        hits.keys_read / (len(case.test) * len(case.keys)),
    )


def time_searches(selector: SharedSelector, effort: int, group: HeadGroup) -> tuple[float, float]:
    """Milliseconds a query and head of a selector and of exact search, in alternation: medians."""
    queries, questions, S = group.queries(), group.cases[0].questions, len(group.cases)
    starts = range(0, max(1, queries.shape[1] - BATCH_ROWS + 1), BATCH_ROWS)[:BATCHES]
    selector_ms, exact_ms = [], []
    for start in list(starts) * PASSES:
        rows = slice(start, start + BATCH_ROWS)
        batch, own = queries[:, rows], questions[rows]
        count = S * batch.shape[1]
        selector_ms.append(_time_ms(partial(selector.search, batch, TOP_K, effort, own)) / count)
        exact = [
            _time_ms(partial(reference.exact.search, head, TOP_K))
            for reference, head in zip(group.references, batch, strict=True)
        ]
        exact_ms.append(sum(exact) / count)
    return statistics.median(selector_ms), statistics.median(exact_ms)


def _time_ms(call: Callable[[], object]) -> float:
    clock = time.perf_counter()
    call()
    return (time.perf_counter() - clock) * 1e3


def selector_row(
    name: str, tokens: int, recall: float, heads: Sequence[HeadMeasurement]
) -> dict[str, Any]:
    """One row of the table: means over the heads, each at its own effort."""
    points = [head.point for head in heads]
    budgets = zip(*(head.budgets for head in heads), strict=True)

    def mean(values: Iterator[float]) -> float:
        return statistics.fmean(values)

    return {
        "selector": name,
        "tokens": tokens,
        "recall_at_100": mean(p.recall_at_100 for p in points),
        "attention_mass": mean(p.attention_mass for p in points),
        "mass_read": mean(p.mass_read for p in points),
        "output_error": mean(p.output_error for p in points),
        "error_read": mean(p.error_read for p in points),
        "unit_rho": mean_of_known(p.unit_rho for p in points),
        "share_of_keys_read": mean(p.share_of_keys_read for p in points),
        "ms": mean(head.ms for head in heads),
        "times_faster_than_exact": mean(head.exact_ms / head.ms for head in heads),
        "budgets": [budget_row(*pair) for pair in zip(BUDGETS, budgets, strict=True)],
        "build_s": mean(head.build_s for head in heads),
        "reached": all(p.recall_at_100 >= recall for p in points),
        "heads": [asdict(head) for head in heads],
    }


def budget_row(
    budget: float, points: Sequence[EffortPoint | None]
) -> dict[str, float | None] | None:
    """Means over the heads within a budget; None where a head's smallest effort exceeds it."""
    fitting = [point for point in points if point is not None]
    if len(fitting) < len(points):
        return None
    names = ("recall_at_100", "mass_read", "output_error", "error_read", "share_of_keys_read")
    means = {name: statistics.fmean(getattr(p, name) for p in fitting) for name in names}
    return {"budget": budget, **means, "unit_rho": mean_of_known(p.unit_rho for p in fitting)}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
