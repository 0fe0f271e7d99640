"""Passages as a proxy reads them: in windows of whole units, each in a prompt of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from tamis.probes.cache import CachedReader, PassageCache
from tamis.probes.capture import Want
from tamis.probes.prompt import Layout, Prompt, Read, Template, token_spans
from tamis.probes.proxy import Card, Proxy
from tamis.probes.signal import Signal
from tamis.probes.text import Passage, Unit

WINDOW_TOKENS = 512
"""Longest window. Attention grows with its square, so longer ones cost more a token."""


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


def remembering(reader: Any, cache: PassageCache | None) -> Any:
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
class Look:
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

    @property
    def cost(self) -> tuple[int, int, dict[str, float], int]:
        """What `Scores` says of it, in that order."""
        return self.windows, self.tokens_read, self.timings_ms, self.tokens_cached


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


def read_alone(
    reader: Reader,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    want: Want,
    pool: Callable[[Signal, Sequence[tuple[int, int]]], Tensor],
    limit: int = WINDOW_TOKENS,
    lead: bool = False,
) -> Look:
    """Reads each window in a prompt of its own: no passage can change what is seen of another.

    Args:
        pool: a window's signal and its units' token spans to features `[U, F]`. A window's signal
            is dropped as soon as it is pooled, so memory does not grow with the input.
        limit, lead: as for `windows`.
    """
    clock = time.perf_counter()
    cut = windows(reader.layout, passages, units, limit, lead)
    ask = reader.layout.ask(question)
    prompts = [Prompt(window.read, ask) for window in cut]
    tokenised = time.perf_counter()
    rows, cached = [], 0
    for window, signal in zip(cut, reader.read(prompts, want), strict=True):
        rows.append(pool(signal, window.read.spans))
        cached += signal.cached
    read = time.perf_counter()
    return Look(
        torch.cat(rows) if rows else torch.zeros(0, 0),
        tuple(b - a for window in cut for a, b in window.read.spans),
        len(cut),
        sum(len(prompt) for prompt in prompts) - cached,
        {"tokenize": (tokenised - clock) * 1e3, "read": (read - tokenised) * 1e3},
        cached,
    )
