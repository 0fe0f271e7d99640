"""Selectors side by side: how many keys each has to read to find what a query attends to."""

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
from tamis.service.evaluation.selectors.cases import Case

K = 100
BATCH_ROWS = 16
"""Queries searched at once when the clock runs: about the rows of one question."""
BATCHES, PASSES = 10, 3
NARROWING = 3


@dataclass(frozen=True, slots=True)
class Truth:
    """What exact attention says of a case's test queries.

    Attributes:
        ids: `[Q, K]`, the keys with the largest logits; all of them where there are fewer.
        lse: `[Q]`, log-sum-exp of all logits.
    """

    exact: ExactIndex
    ids: Tensor
    lse: Tensor


@dataclass(frozen=True, slots=True)
class Point:
    """One effort of a selector.

    Attributes:
        recall_at_100: share of the 100 keys with the largest logits that it found.
        attention_mass: share of the softmax over all keys that falls on the keys it found.
        share_of_keys_read: keys read a query, as a share of all keys.
    """

    effort: int
    recall_at_100: float
    attention_mass: float
    share_of_keys_read: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One selector on one head: the cheapest effort that reached the recall, else the largest.

    Attributes:
        curve: every effort tried, ascending.
        ms: a query, in batches of 16. exact_ms: the same for exact search, batches alternating.
    """

    head: str
    point: Point
    curve: tuple[Point, ...]
    ms: float
    exact_ms: float
    build_s: float


def truth(case: Case) -> Truth:
    """Exact search over the keys of a case."""
    exact = ExactIndex(case.keys)
    rows = torch.split(case.test, max(1, 2**24 // len(case.keys)))
    lse = torch.cat([(part @ case.keys.T).logsumexp(1) for part in rows])
    return Truth(exact, exact.search(case.test, min(K, len(case.keys))).ids, lse)


def measure(name: str, case: Case, against: Truth, recall: float) -> Measured:
    """Builds a selector, looks for the cheapest effort that reaches `recall`, and times it."""
    clock = time.perf_counter()
    selector = selector_registry.build_selector(name, case.keys, case.train)
    built = time.perf_counter() - clock
    tried: dict[int, Point] = {}

    def reaches(effort: int) -> bool:
        tried[effort] = point(effort, selector.search(case.test, K, effort), case, against)
        return tried[effort].recall_at_100 >= recall

    best = tried[cheapest(selector.efforts, reaches)]
    ms, exact_ms = timed(selector, best.effort, case.test, against.exact)
    layer, head = case.head
    curve = tuple(tried[effort] for effort in sorted(tried))
    return Measured(f"{layer}.{head}", best, curve, ms, exact_ms, built)


def cheapest(efforts: Sequence[int], reaches: Callable[[int], bool]) -> int:
    """The smallest effort that reaches, between two neighbours narrowed down by halves."""
    below = 0
    for effort in efforts:
        if reaches(effort):
            break
        below = effort
    else:
        return below
    for _ in range(NARROWING if below else 0):
        middle = (below + effort) // 2
        if middle in (below, effort):
            break
        below, effort = (below, middle) if reaches(middle) else (middle, effort)
    return effort


def point(effort: int, hits: KeyHits, case: Case, against: Truth) -> Point:
    """What a search found, against the truth."""
    found = (hits.ids[:, :, None] == against.ids[:, None, :]).any(2)
    mass = (hits.scores.logsumexp(1) - against.lse).exp()
    return Point(
        effort,
        float(found.sum(1).float().mean()) / against.ids.shape[1],
        float(mass.mean()),
        hits.keys_read / (len(case.test) * len(case.keys)),
    )


def timed(selector: KeySelector, effort: int, queries: Tensor, exact: ExactIndex) -> tuple[float, float]:
    """Milliseconds a query of a selector and of exact search: medians over alternating batches."""
    whole = [part for part in torch.split(queries, BATCH_ROWS) if len(part) == BATCH_ROWS]
    batches = whole[:BATCHES] or [queries]
    mine, theirs = [], []
    for batch in batches * PASSES:
        mine.append(_ms(partial(selector.search, batch, K, effort)) / len(batch))
        theirs.append(_ms(partial(exact.search, batch, K)) / len(batch))
    return statistics.median(mine), statistics.median(theirs)


def _ms(call: Callable[[], object]) -> float:
    clock = time.perf_counter()
    call()
    return (time.perf_counter() - clock) * 1e3


def row(name: str, tokens: int, recall: float, heads: Sequence[Measured]) -> dict[str, Any]:
    """One line of the table: means over the heads, each at its own effort."""
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
