"""Ways to read the passages of a question: alone, in packs, all in one prompt, and a second time.

alone    [title, passage 1] question     [title, passage 2] question     …
packs    [title, passage 1, blank line, title, passage 2, …] question    up to 512 tokens each
whole    the same without a limit but the proxy's context
again    as alone, with a longer question; what was kept of the passages serves a second time
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
from tamis.compressors.reading.long_range import document_tokens_left
from tamis.compressors.reading.windows import WINDOW_TOKENS, Reader, Reading, Window, windows
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.prompt import Layout, Prompt, Read, packed
from tamis.probes.signal import Want
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.case_readings import Looks
from tamis.service.training.probe import look_key

_BETWEEN = "\n\n"


class Alone:
    """The default's reading, and a second one of the passages that the first has kept.

    Nothing is kept from one question to the next: a first reading is always of everything, a second
    one of nothing but its question, also in a run that goes on where another stopped.
    """

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader = reader
        self.method = QuestionRows(reader, probe=None)
        self.method.layers = layers
        key = look_key(self.method)
        self._first, self._second = (Looks(folder, f"hops {one} {key}") for one in (1, 2))

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """What the question's rows see: `[U, 2·L·H]`."""
        return self._first.get(question, passages, units, self._cold)

    def again(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """The same of another question; its passages cost nothing: `[U, 2·L·H]`."""
        return self._second.get(question, passages, units, self._warm)

    def _cold(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        self.reader.cache.clear()
        return self.method.read(question, passages, units)

    def _warm(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        self._keep(passages, units)
        return self.method.read(question, passages, units)

    def _keep(self, passages: Sequence[Passage], units: Sequence[Unit]) -> None:
        """Keeps all windows, unless the first reading has: it may be one of an earlier run."""
        layout, cache = self.reader.layout, self.reader.cache
        cut = windows(layout, passages, units, self.method.window_tokens)
        prompts = [Prompt(window.read, layout.ask("")) for window in cut]
        keys = [self.reader.key(prompt) for prompt in prompts]
        if all(map(cache.holds, keys)):
            return
        cache.clear()
        want = Want(tuple(range(self.method.layers)))
        for key, kept in zip(keys, self.reader.proxy.keep(prompts, want), strict=True):
            cache.put(key, kept, {})


class Packs:
    """Neighbouring passages in one prompt, a blank line between them."""

    def __init__(self, reader: Reader, layers: int, window_tokens: int = WINDOW_TOKENS) -> None:
        """`window_tokens` is the most of a prompt, the question aside."""
        self.reader, self.layers, self.window_tokens = reader, layers, window_tokens

    @property
    def reading_key(self) -> str:
        """Windows and depth are all that a reading depends on."""
        return f"{self.window_tokens} {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """What the question's rows see: `[U, 2·L·H]`."""
        clock = time.perf_counter()
        layout = self.reader.layout
        ask = layout.ask(question)
        room = document_tokens_left(self.reader, ask, self.window_tokens)
        reads = list(packs(layout, windows(layout, passages, units, room), room))
        prompts = [Prompt(read, ask) for read in reads]
        tokenised = time.perf_counter()
        want = Want(tuple(range(self.layers)), ("question_mean",))
        signals = zip(reads, self.reader.read(prompts, want), strict=True)
        features = torch.cat([pool_question_rows(signal, read.spans) for read, signal in signals])
        took = {
            "tokenize": (tokenised - clock) * 1e3,
            "read": (time.perf_counter() - tokenised) * 1e3,
        }
        sizes = tuple(b - a for read in reads for a, b in read.spans)
        return Reading(features, sizes, len(prompts), sum(map(len, prompts)), took)


def packs(layout: Layout, cut: Sequence[Window], most_tokens: int) -> Iterator[Read]:
    """Consecutive windows as one readable piece, as many as fit; titles are no part of a unit."""
    between = tuple(layout.tokens.encode(_BETWEEN).ids)
    wide = len(between)
    for pack in packed(cut, most_tokens + wide, lambda window: len(window.read.ids) + wide):
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for window in pack:
            ids += between if ids else ()
            start = len(ids) + window.read.start
            spans += [(start + a, start + b) for a, b in window.read.spans]
            ids += window.read.ids
        yield Read(tuple(ids), 0, tuple(spans))


def whole_tokens(layout: Layout, passages: Sequence[Passage]) -> int:
    """Tokens of all passages in one prompt, with titles and blank lines."""
    lines = [f"{passage.title}\n" for passage in passages if passage.title]
    texts = [*lines, *(passage.text for passage in passages), *[_BETWEEN] * (len(passages) - 1)]
    return sum(len(encoded.ids) for encoded in layout.tokens.encode_many(texts))


def log_shares(look: Reading) -> Tensor:
    """Each head's mass shared out over all units of the question, in logs: `[U, L·H]`.

    The first half of a look's features is the log of the mean a token.
    """
    mean = look.features[:, : look.features.shape[1] // 2]
    mass = mean + torch.tensor(look.tokens).clamp_min(1).log()[:, None]
    return mass.log_softmax(0)


def widened(look: Reading, more: Tensor) -> Reading:
    """The same reading with more features, which cost no reading."""
    return replace(look, features=torch.cat([look.features, more], 1))


def both(first: Reading, second: Reading, between_ms: float) -> Reading:
    """Two readings as one: features side by side, costs summed; `between_ms` lay between them."""
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
    """One thread for torch: times of ways that batch differently can then be compared."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
