"""Ways to read the passages of a question: alone, in packs, all in one prompt, and a second time.

alone    [title, passage 1] question     [title, passage 2] question     …
packs    [title, passage 1, blank line, title, passage 2, …] question    up to 512 tokens each
whole    the same, limited by the proxy's context only
again    as alone, with a longer question; the cached keys of the passages are used again
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.methods.question_rows import QuestionRows, pool_question_rows
from tamis.compressors.reading.windows import (
    WINDOW_TOKENS,
    Reader,
    Reading,
    Window,
    document_tokens_left,
    split_windows,
)
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.prompt import Layout, PassageTokens, Prompt, token_batches
from tamis.probes.signal import Want
from tamis.probes.text import Passage, Unit
from tamis_lab.datasets.reading_store import CaseReadings, store_key

_SEPARATOR = "\n\n"


class PassagesAlone:
    """The reading of the default method, and a second one over passages that the first cached.

    Nothing is cached from one question to the next: a first reading always runs all tokens, a
    second one only those of its question, in a resumed run, too.
    """

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader = reader
        self.method = QuestionRows.for_fit(reader, layers)
        self._first, self._second = (
            CaseReadings(folder, store_key(self.method, f"hops {number}")) for number in (1, 2)
        )

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Features of the question's rows: `[U, 2·L·H]`."""
        return self._first.get_or_read(question, passages, units, self._read_cold)

    def read_again(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        """The same for another question over passages already cached: `[U, 2·L·H]`."""
        return self._second.get_or_read(question, passages, units, self._read_warm)

    def _read_cold(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        self.reader.cache.clear()
        return self.method.read(question, passages, units)

    def _read_warm(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        self._cache_windows(passages, units)
        return self.method.read(question, passages, units)

    def _cache_windows(self, passages: Sequence[Passage], units: Sequence[Unit]) -> None:
        """Caches all windows, unless the first reading was made in this run and has done so."""
        layout, cache = self.reader.layout, self.reader.cache
        cut = split_windows(layout, passages, units, self.method.window_tokens)
        prompts = [Prompt(window.tokens, layout.question_tokens("")) for window in cut]
        keys = [self.reader.key(prompt) for prompt in prompts]
        if all(map(cache.holds, keys)):
            return
        cache.clear()
        want = Want(tuple(range(self.method.layers)))
        for key, kept in zip(keys, self.reader.proxy.compute_kv(prompts, want), strict=True):
            cache.put(key, kept, {})


class PassagePacks:
    """Neighbouring passages in one prompt, a blank line between them."""

    def __init__(self, reader: Reader, layers: int, window_tokens: int = WINDOW_TOKENS) -> None:
        """`window_tokens` is the largest number of tokens in a prompt, without the question."""
        self.reader, self.layers, self.window_tokens = reader, layers, window_tokens

    @property
    def reading_key(self) -> str:
        """What a reading depends on: the size of prompts, and the number of layers."""
        return f"{self.window_tokens} {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Features of the question's rows: `[U, 2·L·H]`."""
        clock = time.perf_counter()
        layout = self.reader.layout
        ask = layout.question_tokens(question)
        room = document_tokens_left(self.reader, ask, self.window_tokens)
        reads = list(pack_windows(layout, split_windows(layout, passages, units, room), room))
        prompts = [Prompt(read, ask) for read in reads]
        tokenised = time.perf_counter()
        want = Want(tuple(range(self.layers)), ("question_mean",))
        signals = zip(reads, self.reader.read(prompts, want), strict=True)
        features = torch.cat(
            [pool_question_rows(signal, read.unit_spans) for read, signal in signals]
        ).cpu()
        timings_ms = {
            "tokenize": (tokenised - clock) * 1e3,
            "read": (time.perf_counter() - tokenised) * 1e3,
        }
        sizes = tuple(b - a for read in reads for a, b in read.unit_spans)
        return Reading(features, sizes, len(prompts), sum(map(len, prompts)), timings_ms)


def pack_windows(layout: Layout, cut: Sequence[Window], max_tokens: int) -> Iterator[PassageTokens]:
    """Joins as many consecutive windows as fit into one text; titles belong to no unit."""
    between = tuple(layout.tokenizer.encode(_SEPARATOR).ids)
    wide = len(between)
    for pack in token_batches(cut, max_tokens + wide, lambda window: len(window.tokens.ids) + wide):
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for window in pack:
            ids += between if ids else ()
            start = len(ids) + window.tokens.title_tokens
            spans += [(start + a, start + b) for a, b in window.tokens.unit_spans]
            ids += window.tokens.ids
        yield PassageTokens(tuple(ids), 0, tuple(spans))


def count_joined_tokens(layout: Layout, passages: Sequence[Passage]) -> int:
    """How many tokens all passages have in one prompt, with titles and blank lines."""
    titles = [f"{passage.title}\n" for passage in passages if passage.title]
    texts = [*titles, *(passage.text for passage in passages)]
    texts += [_SEPARATOR] * (len(passages) - 1)
    return sum(len(encoded.ids) for encoded in layout.tokenizer.encode_many(texts))


def log_shares(reading: Reading) -> Tensor:
    """The log of each unit's share of a head's mass over all units of the question: `[U, L·H]`.

    The first half of a reading's features is the log of the mean a token.
    """
    mean = reading.features[:, : reading.features.shape[1] // 2]
    mass = mean + torch.tensor(reading.tokens).clamp_min(1).log()[:, None]
    return mass.log_softmax(0)


def append_features(reading: Reading, more: Tensor) -> Reading:
    """The same reading with more features, at no cost in tokens."""
    return replace(reading, features=torch.cat([reading.features, more], 1))


def join_readings(first: Reading, second: Reading, between_ms: float) -> Reading:
    """Joins two readings: features concatenated, costs summed.

    `between_ms` is the time between the two readings.
    """
    return Reading(
        torch.cat([first.features, second.features], 1),
        first.tokens,
        first.windows + second.windows,
        first.tokens_read + second.tokens_read,
        {
            "first": sum(first.timings_ms.values()),
            "between": between_ms,
            "second": sum(second.timings_ms.values()),
        },
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread, so that times of ways that batch differently are comparable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
