"""Passages as a proxy reads them: in windows of whole units, each in a prompt of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tamis.compressors.method import best_unit_scores
from tamis.compressors.types import Scores
from tamis.probes.card import Card
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Layout, Prompt, Read, Template, packed, token_spans
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit

WINDOW_TOKENS = 512
"""Longest window. Attention grows with its square, so longer ones cost more a token."""
TURN_TOKENS = 16384
"""Of windows that are asked everything before the next are read."""


class Reader(Protocol):
    """What methods need of a proxy; `Proxy` and `Scripted` are two."""

    card: Card
    layout: Layout

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        ...

    def with_template(self, template: Template) -> Reader:
        """The same model, in other words."""
        ...


def with_cache(reader: Any, cache: PassageCache | None) -> Any:
    """A proxy that keeps passages in the cache; without one, or without a model, as it is."""
    if cache is None or not isinstance(reader, Proxy):
        return reader
    return CachedReader(reader, cache)


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive units of one passage, as tokens: units `[first, stop)` of the request."""

    passage: int
    first: int
    stop: int
    read: Read


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of every unit.

    Attributes:
        features: `[U, F]` fp32, one row a unit, in order.
        tokens: proxy tokens of each unit.
        windows: prompts that were read. tokens_read: tokens that ran through the model.
        tokens_cached: tokens whose keys and values were kept from before, and did not run.
    """

    features: Tensor
    tokens: tuple[int, ...]
    windows: int
    tokens_read: int
    timings_ms: dict[str, float]
    tokens_cached: int = 0

    def scores(
        self,
        values: Tensor,
        units: Sequence[Unit],
        passages: int,
        *,
        calibrated: bool = False,
        answerability: float | None = None,
        score_ms: float | None = None,
    ) -> Scores:
        """The values `[U]` that a method gives to what was read, with what the reading cost.

        Args:
            passages: how many; each ranks by its best unit.
            calibrated, answerability: as in `Scores`.
            score_ms: what scoring took; None where it takes next to nothing.
        """
        each = tuple(values.tolist())
        return Scores(
            each,
            best_unit_scores(each, units, passages),
            calibrated,
            self.windows,
            self.tokens_read,
            self.timings_ms | ({} if score_ms is None else {"score": score_ms}),
            self.tokens_cached,
            answerability,
        )


def windows(
    layout: Layout,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    limit: int = WINDOW_TOKENS,
    lead: bool = False,
) -> list[Window]:
    """Cuts passages into windows of whole units of at most `limit` tokens.

    A passage is tokenised once, whole. A unit longer than the limit is a window of its own.

    Args:
        lead: whether a window also holds the text between its first unit and the window before it.
    """
    encoded = layout.tokens.encode_many([passage.text for passage in passages])
    lines = [f"{passage.title}\n" if passage.title else "" for passage in passages]
    titles = layout.tokens.encode_many(lines)
    found: list[Window] = []
    for first, stop in _runs(units):
        p = units[first].passage
        spans = token_spans(encoded[p], [units[u].visible for u in range(first, stop)])
        starts = _starts(spans, lead)
        for a, b in _cuts(spans, starts, limit):
            start, end = starts[a], max(spans[b - 1][1], starts[a])
            inner = tuple((x - start, y - start) for x, y in spans[a:b])
            ids = (*titles[p].ids, *encoded[p].ids[start:end])
            found.append(Window(p, first + a, first + b, Read(ids, len(titles[p]), inner)))
    return found


def _runs(units: Sequence[Unit]) -> Iterator[tuple[int, int]]:
    """Half-open runs of units that share a passage."""
    first = 0
    for u in range(1, len(units) + 1):
        if u == len(units) or units[u].passage != units[first].passage:
            yield first, u
            first = u


def _starts(spans: Sequence[tuple[int, int]], lead: bool) -> list[int]:
    """For each span, where a window that begins with it starts."""
    if not lead:
        return [start for start, _ in spans]
    # [0, a) title  [a, b) unit  [b, c) gap  [c, d) unit: windows start at 0 and b, and where a
    # token straddles two units, at the token
    ends = [0, *(stop for _, stop in spans)]
    return [min(start, end) for (start, _), end in zip(spans, ends, strict=False)]


def _cuts(
    spans: Sequence[tuple[int, int]], starts: Sequence[int], limit: int
) -> Iterator[tuple[int, int]]:
    """Half-open runs of spans that cover at most `limit` tokens, or a single longer span."""
    first = 0
    for i in range(1, len(spans) + 1):
        if i == len(spans) or spans[i][1] - starts[first] > limit:
            yield first, i
            first = i


def read_windows(
    reader: Reader,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    want: Want,
    pool: Callable[[Signal, Sequence[tuple[int, int]]], Tensor],
    limit: int = WINDOW_TOKENS,
    lead: bool = False,
    beside: Sequence[str] = (),
) -> Reading:
    """Reads each window in a prompt of its own: no passage can change what is seen of another.

    Args:
        pool: a window's signal and its units' token spans to features `[U, F]`. A window's signal
            is dropped as soon as it is pooled, so memory does not grow with the input.
        limit, lead: as for `windows`.
        beside: further questions to ask of every window; their features come behind, in order.
    """
    clock = time.perf_counter()
    cut = windows(reader.layout, passages, units, limit, lead)
    asks = [reader.layout.ask(asked) for asked in (question, *beside)]
    tokenised = time.perf_counter()
    rows, ran, cached = [], 0, 0
    for turn in _turns(reader, cut, len(asks)):
        prompts = [Prompt(window.read, ask) for ask in asks for window in turn]
        pooled = []
        for n, (prompt, signal) in enumerate(zip(prompts, reader.read(prompts, want), strict=True)):
            pooled.append(pool(signal, prompt.read.spans))
            ran += len(prompt) - signal.cached
            # what the first question has just read was not kept from before
            cached += signal.cached if n < len(turn) else 0
        each = [torch.cat(pooled[i : i + len(turn)]) for i in range(0, len(pooled), len(turn))]
        rows.append(torch.cat(each, -1))
    read = time.perf_counter()
    return Reading(
        torch.cat(rows) if rows else torch.zeros(0, 0),
        tuple(b - a for window in cut for a, b in window.read.spans),
        len(cut),
        ran,
        {"tokenize": (tokenised - clock) * 1e3, "read": (read - tokenised) * 1e3},
        cached,
    )


def _turns(reader: Reader, cut: list[Window], asks: int) -> list[list[Window]]:
    """All windows at once; with several questions, so many as a cache holds until the last."""
    if asks > 1 and isinstance(reader, CachedReader):
        return list(packed(cut, TURN_TOKENS, lambda window: len(window.read.ids)))
    return [cut] if cut else []
