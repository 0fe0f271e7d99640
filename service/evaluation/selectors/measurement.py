"""Measures how many keys each selector has to read to find those that a query attends to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tamis.retrieval.kv import selector_registry
from tamis.retrieval.kv.exact import ExactIndex
from tamis.retrieval.kv.selector import KeySelector
from tamis.retrieval.kv.types import KeyHits
from tamis.service.evaluation.selectors.cases import SelectorCase

TOP_K = 100
BATCH_ROWS = 16
"""Queries of one timed search: about as many as one question has rows."""
BATCHES, PASSES = 10, 3
NARROWING_STEPS = 3


@dataclass(frozen=True, slots=True)
class ExactReference:
    """Exact attention of a case's test queries.

    Attributes:
        exact: the exact index.
        ids: `[Q, K]`, the keys with the largest logits; all keys where there are fewer.
        lse: `[Q]`, log-sum-exp of all logits.
    """

    exact: ExactIndex
    ids: Tensor
    lse: Tensor


@dataclass(frozen=True, slots=True)
class EffortPoint:
    """The result of a selector at one effort.

    Attributes:
        recall_at_100: share of the 100 keys with the largest logits that the search found.
        attention_mass: share of the softmax over all keys that the found keys have.
        share_of_keys_read: keys read for a query, as a share of all keys.
    """

    effort: int
    recall_at_100: float
    attention_mass: float
    share_of_keys_read: float


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """One selector on one head, at the cheapest effort that reached the recall, else the largest.

    Attributes:
        head: as `layer.head`. point: at that effort. curve: every effort tried, ascending.
        ms: of a query, in batches of 16. exact_ms: the same for exact search, in alternation.
        build_s: seconds that building the index took.
    """

    head: str
    point: EffortPoint
    curve: tuple[EffortPoint, ...]
    ms: float
    exact_ms: float
    build_s: float


def exact_reference(case: SelectorCase) -> ExactReference:
    """Exact search over the keys of a case."""
    exact = ExactIndex(case.keys)
    rows = torch.split(case.test, max(1, 2**24 // len(case.keys)))
    lse = torch.cat([(part @ case.keys.T).logsumexp(1) for part in rows])
    return ExactReference(exact, exact.search(case.test, min(TOP_K, len(case.keys))).ids, lse)


def measure_selector(
    name: str, case: SelectorCase, reference: ExactReference, recall: float
) -> HeadMeasurement:
    """Builds a selector, finds the cheapest effort that reaches `recall`, and times it."""
    clock = time.perf_counter()
    selector = selector_registry.build_selector(name, case.keys, case.train)
    build_s = time.perf_counter() - clock
    points: dict[int, EffortPoint] = {}

    def reaches_recall(effort: int) -> bool:
        hits = selector.search(case.test, TOP_K, effort)
        points[effort] = effort_point(effort, hits, case, reference)
        return points[effort].recall_at_100 >= recall

    best = points[cheapest_effort(selector.efforts, reaches_recall)]
    ms, exact_ms = time_searches(selector, best.effort, case.test, reference.exact)
    layer, head = case.head
    curve = tuple(points[effort] for effort in sorted(points))
    return HeadMeasurement(f"{layer}.{head}", best, curve, ms, exact_ms, build_s)


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
    found = (hits.ids[:, :, None] == reference.ids[:, None, :]).any(2)
    mass = (hits.scores.logsumexp(1) - reference.lse).exp()
    return EffortPoint(
        effort,
        float(found.sum(1).float().mean()) / reference.ids.shape[1],
        float(mass.mean()),
        hits.keys_read / (len(case.test) * len(case.keys)),
    )


def time_searches(
    selector: KeySelector, effort: int, queries: Tensor, exact: ExactIndex
) -> tuple[float, float]:
    """Milliseconds a query of a selector and of exact search: medians over alternating batches."""
    full = [part for part in torch.split(queries, BATCH_ROWS) if len(part) == BATCH_ROWS]
    batches = full[:BATCHES] or [queries]
    selector_ms, exact_ms = [], []
    for batch in batches * PASSES:
        selector_ms.append(_time_ms(partial(selector.search, batch, TOP_K, effort)) / len(batch))
        exact_ms.append(_time_ms(partial(exact.search, batch, TOP_K)) / len(batch))
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

    def mean(values: Iterator[float]) -> float:
        return statistics.fmean(values)

    return {
        "selector": name,
        "tokens": tokens,
        "recall_at_100": mean(p.recall_at_100 for p in points),
        "attention_mass": mean(p.attention_mass for p in points),
        "share_of_keys_read": mean(p.share_of_keys_read for p in points),
        "ms": mean(head.ms for head in heads),
        "times_faster_than_exact": mean(head.exact_ms / head.ms for head in heads),
        "build_s": mean(head.build_s for head in heads),
        "reached": all(p.recall_at_100 >= recall for p in points),
        "heads": [asdict(head) for head in heads],
    }
