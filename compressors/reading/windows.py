"""Reads passages with a proxy: in windows of whole units, each in a prompt of its own.

A support question has a title and a body, an agent's task instructions around it. Where some
sentences of a message have a question mark and several have none, the rows of those that ask count
alone; elsewhere each sentence is looked at on its own.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from tamis.compressors.method import best_unit_scores
from tamis.compressors.types import Scores, passage_runs
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import (
    Layout,
    PassageTokens,
    Paused,
    Prompt,
    QuestionTokens,
    Template,
    token_batches,
    token_spans,
)
from tamis.probes.signal import SharedRows, Signal, Spans, Want
from tamis.probes.tokens import TokenizedText
from tamis.text.inputs import read_before
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import segment

EMPTY_QUERY = "N/A"
"""The question whose scores are subtracted: what is attended to whatever is asked (ICR)."""
MAX_SENTENCES = 16
"""Longer questions are divided into so many runs of sentences, of about the same length."""
STORY_SENTENCES = 2
"""Sentences of a line, beside those that ask, that are not looked from: a single one often says
what the question is about."""
_ASKS = re.compile(r"[?？؟][*_\"'”’»)\]]*\Z")


def question_sentences(question: str) -> tuple[tuple[int, int], ...]:
    """The half-open span of each sentence that asks, in order, without the white space around it.

    Of a line with question marks these are the sentences that end in one, if at least
    `STORY_SENTENCES` do not; of another line all.
    At most `MAX_SENTENCES`; empty for a question of white space alone.
    """
    spans = _asking_spans(question)
    if len(spans) <= MAX_SENTENCES:
        return tuple(spans)
    first, last = spans[0][0], spans[-1][1]
    runs: dict[int, tuple[int, int]] = {}
    for start, stop in spans:
        run = (start + stop - 2 * first) * MAX_SENTENCES // (2 * (last - first))
        runs[run] = runs.get(run, (start, stop))[0], stop
    return tuple(runs.values())


def _asking_spans(question: str) -> list[tuple[int, int]]:
    lines: list[list[tuple[int, int]]] = []
    last = 0
    for start, stop in (piece.visible for piece in segment(question)):
        if not lines or "\n" in question[last:start]:
            lines.append([])
        lines[-1].append((start, stop))
        last = stop
    return [span for line in lines for span in _asking_of(question, line)]


def _asking_of(question: str, line: list[tuple[int, int]]) -> list[tuple[int, int]]:
    asking = [span for span in line if _ASKS.search(question[slice(*span)])]
    return asking if asking and len(line) - len(asking) >= STORY_SENTENCES else line


def sentences_apart(question: str) -> tuple[tuple[int, int], ...]:
    """The sentences that ask, unless all is one sentence: their rows count, and no others."""
    return question_sentences(question) if len(segment(question)) > 1 else ()


def asking_text(question: str) -> str:
    """A question without the sentences of it that do not ask."""
    asking = _asking_spans(question)
    whole = len(asking) == len(segment(question))
    return question if whole else " ".join(question[start:stop] for start, stop in asking)


def tokenize_question(layout: Layout, question: str) -> QuestionTokens:
    """The question piece of a prompt, in which the rows of its sentences can be told apart."""
    return layout.question_tokens(question, sentences_apart(question))


WINDOW_TOKENS = 512
"""The longest window. Attention grows with its square, so longer ones cost more per token."""
_TOKEN_BYTES, _UNIT_BYTES = 40, 250  # of a token and of a unit's spans, as Python has them
CACHED_GROUP_TOKENS = 16384
"""Where several questions are read with a cache: tokens of the windows that are read with all
questions before the next windows are, so that the cache still holds them."""


_WAITING_TENSORS = 8
"""Tensors of rows that wait on a device to be pooled and copied together."""

Pool = Callable[[Signal, Spans], Tensor]
"""From a signal and the token spans of its units to their features `[U, F]`."""
PoolBatch = Callable[[Sequence[SharedRows], Sequence[Spans]], Tensor]
"""The same for many sequences of one tensor, on its device: the units of all, `[ΣU, F]`."""


class Reader(Protocol):
    """What methods need of a proxy, such as `Proxy` or `ScriptedReader`."""

    card: ModelCard
    layout: Layout

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""

    def with_template(self, template: Template) -> Reader:
        """The same model with another prompt template."""


def with_cache(reader: Any, cache: PassageCache | None) -> Any:
    """A proxy that keeps passages in the cache; the reader itself without a cache or a model."""
    if cache is None or not isinstance(reader, Proxy):
        return reader
    return CachedReader(reader, cache)


@dataclass(frozen=True, slots=True)
class Window:
    """Consecutive units of one passage, as tokens.

    Attributes:
        passage: its index. first, stop: the half-open range of units.
        tokens: the title line, the text, and the units' token spans.
    """

    passage: int
    first: int
    stop: int
    tokens: PassageTokens


@dataclass(frozen=True, slots=True)
class Reading:
    """The attention to every unit, pooled to features.

    Attributes:
        features: `[U, F]` fp32 on the CPU, one row per unit, in order.
        tokens: proxy tokens of each unit.
        windows: prompts that were read. tokens_read: tokens that ran through the model.
        tokens_cached: tokens whose keys and values came from a cache, and did not run.
        cosines: of each unit with the question by a sentence encoder, `[U]`; None without one.
        depths: the number of layers that were read of each unit; the features of others are
            estimates. None where all units were read to the end.
        layers: of a unit that was read to the end, where others were not.
        judged: the features that a method scored to choose what else to read, and what it computed
            of them, for scoring; None where it did not.
    """

    features: Tensor
    tokens: tuple[int, ...]
    windows: int
    tokens_read: int
    timings_ms: dict[str, float]
    tokens_cached: int = 0
    cosines: Tensor | None = None
    depths: tuple[int, ...] | None = None
    layers: int = 0
    judged: tuple[Tensor, Any] | None = field(default=None, repr=False, compare=False)

    @property
    def is_whole(self) -> Tensor:
        """Which units were read to the end, `[U]` bool."""
        if self.depths is None:
            return torch.ones(len(self.tokens), dtype=torch.bool)
        return torch.tensor(self.depths) == self.layers

    def scores(
        self,
        values: Tensor,
        units: Sequence[Unit],
        passages: int,
        *,
        score_ms: float | None = None,
        **known: Any,
    ) -> Scores:
        """The values `[U]` that a method gives to what was read, with what the reading cost.

        Args:
            passages: how many; each ranks by its best unit.
            score_ms: how long scoring took; None where it takes next to nothing.
            known: other fields of `Scores`, such as `calibrated`.
        """
        each = tuple(values.tolist())
        return Scores(
            each,
            best_unit_scores(each, units, passages),
            windows=self.windows,
            tokens_read=self.tokens_read,
            timings_ms=self.timings_ms | ({} if score_ms is None else {"score": score_ms}),
            tokens_cached=self.tokens_cached,
            units_read=None if self.depths is None else int(self.is_whole.sum()),
            **known,
        )


def split_windows(
    layout: Layout,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    limit: int = WINDOW_TOKENS,
    include_gaps: bool = False,
) -> list[Window]:
    """Cuts passages into windows of whole units of at most `limit` tokens.

    A passage is tokenised once, whole, and not again while `layout.cuts` has it. A unit longer than
    the limit is a window of its own.

    Args:
        include_gaps: whether a window also holds the text between the window before it and its
            first unit.
    """
    runs = list(passage_runs(units))
    keys = []
    for first, stop in runs:
        passage = passages[units[first].passage]
        visible = tuple([unit.visible for unit in units[first:stop]])
        keys.append(_CutKey(passage.text, read_before(passage), visible, limit, include_gaps))
    cuts: dict[_CutKey, Any] = {key: layout.cuts.peek(key) for key in keys}
    new = [key for key, cut in cuts.items() if cut is None]
    texts = layout.tokenizer.encode_many([key.text for key in new])
    titles = layout.tokenizer.encode_many([key.title for key in new])
    for key, text, title in zip(new, texts, titles, strict=True):
        cuts[key] = cut = _cut(text, title, key)
        tokens = sum(len(part.ids) for _, _, part in cut)
        size = len(key.text) + len(key.title) + _TOKEN_BYTES * tokens
        layout.cuts.put(key, size + _UNIT_BYTES * len(key.visible), cut)
    return [
        Window(units[first].passage, first + a, first + b, tokens)
        for (first, _), key in zip(runs, keys, strict=True)
        for a, b, tokens in cuts[key]
    ]


@dataclass(frozen=True, slots=True)
class _CutKey:
    """All that the windows of a passage depend on, but for the tokenizer.

    Attributes:
        title: what is read before the text.
        visible: the half-open span of each unit in the text.
        limit, include_gaps: as for `split_windows`.
    """

    text: str
    title: str
    visible: tuple[tuple[int, int], ...]
    limit: int
    include_gaps: bool


def _cut(
    text: TokenizedText, title: TokenizedText, key: _CutKey
) -> list[tuple[int, int, PassageTokens]]:
    """The windows of one passage: the half-open range of its units, and the tokens of each."""
    spans = token_spans(text, key.visible)
    starts = _window_starts(spans, key.include_gaps)
    found = []
    for a, b in _window_runs(spans, starts, key.limit):
        start, end = starts[a], max(spans[b - 1][1], starts[a])
        inner = tuple((x - start, y - start) for x, y in spans[a:b])
        ids = (*title.ids, *text.ids[start:end])
        found.append((a, b, PassageTokens(ids, len(title), inner)))
    return found


def _window_starts(spans: Sequence[tuple[int, int]], include_gaps: bool) -> list[int]:
    """For each span, where a window that begins with it starts."""
    if not include_gaps:
        return [start for start, _ in spans]
    # [0, a) title  [a, b) unit  [b, c) gap  [c, d) unit: windows start at 0 and b, and where a
    # token straddles two units, at the token
    ends = [0, *(stop for _, stop in spans)]
    return [min(start, end) for (start, _), end in zip(spans, ends, strict=False)]


def _window_runs(
    spans: Sequence[tuple[int, int]], starts: Sequence[int], limit: int
) -> Iterator[tuple[int, int]]:
    """Half-open runs of spans that cover at most `limit` tokens, or of a single longer span."""
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
    pool: Pool,
    limit: int = WINDOW_TOKENS,
    include_gaps: bool = False,
    other_questions: Sequence[str] = (),
    pool_batch: PoolBatch | None = None,
) -> Reading:
    """Reads each window in a prompt of its own: no passage can change the features of another.

    Args:
        pool: turns a window's signal and its units' token spans into features `[U, F]`, on the
            device of the signal. A signal is dropped as soon as it is pooled, so memory does not
            grow with the input.
        limit, include_gaps: as for `split_windows`.
        other_questions: read after every window, too; their features are appended, in order.
        pool_batch: pools the windows of a batch at once, where a device has them in one tensor.
    """
    clock = time.perf_counter()
    windows = split_windows(reader.layout, passages, units, limit, include_gaps)
    questions = [tokenize_question(reader.layout, text) for text in (question, *other_questions)]
    tokenised = time.perf_counter()
    rows, tokens_read, tokens_cached = [], 0, 0
    for group in _window_groups(reader, windows, len(questions)):
        prompts = [
            Prompt(window.tokens, question_tokens)
            for question_tokens in questions
            for window in group
        ]
        pooled = []
        readings = pool_signals(prompts, reader.read(prompts, want), pool, pool_batch)
        for n, (prompt, one) in enumerate(zip(prompts, readings, strict=True)):
            pooled.append(one.features)
            tokens_read += len(prompt) - one.cached_tokens
            # what was read for the first question just now did not come from an earlier request
            tokens_cached += one.cached_tokens if n < len(group) else 0
        by_question = [
            torch.cat(pooled[i : i + len(group)]) for i in range(0, len(pooled), len(group))
        ]
        rows.append(torch.cat(by_question, -1))
    read = time.perf_counter()
    return Reading(
        torch.cat(rows) if rows else torch.zeros(0, 0),
        tuple(b - a for window in windows for a, b in window.tokens.unit_spans),
        len(windows),
        tokens_read,
        {"tokenize": (tokenised - clock) * 1e3, "read": (read - tokenised) * 1e3},
        tokens_cached,
    )


@dataclass(frozen=True, slots=True)
class PooledSignal:
    """What is left of a signal once it is pooled.

    Attributes:
        features: of its units, `[U, F]`, on the host.
        cached_tokens, paused: as in `Signal`.
    """

    features: Tensor
    cached_tokens: int
    paused: Paused | None


def pool_signals(
    prompts: Sequence[Prompt],
    signals: Iterator[Signal],
    pool: Pool,
    pool_batch: PoolBatch | None = None,
) -> Iterator[PooledSignal]:
    """The features of each prompt's units, in order.

    On a CPU a signal is pooled and dropped as it comes. On another device those of a batch are
    pooled there together, and the features of up to `_WAITING_TENSORS` batches are copied at once.
    """
    waiting: list[tuple[Prompt, Signal]] = []
    tensors: set[int] = set()
    for prompt, signal in zip(prompts, signals, strict=True):
        if signal.weights.device.type == "cpu":
            features = pool(signal, prompt.passage.unit_spans)
            yield PooledSignal(features, signal.cached_tokens, signal.paused)
            continue
        waiting.append((prompt, signal))
        tensors.add(id(signal if signal.shared is None else signal.shared.weights))
        if len(tensors) > _WAITING_TENSORS:
            yield from _pool_waiting(waiting, pool, pool_batch)
            waiting, tensors = [], set()
    yield from _pool_waiting(waiting, pool, pool_batch)


def _pool_waiting(
    waiting: Sequence[tuple[Prompt, Signal]], pool: Pool, pool_batch: PoolBatch | None
) -> Iterator[PooledSignal]:
    """Signals on a device, pooled there and copied to the host at once."""
    if not waiting:
        return
    batches: dict[int, list[int]] = {}
    for n, (_, signal) in enumerate(waiting):
        shared = None if pool_batch is None else signal.shared
        batches.setdefault(-1 - n if shared is None else id(shared.weights), []).append(n)
    parts = [_pool_alike([waiting[n] for n in some], pool, pool_batch) for some in batches.values()]
    order = [n for some in batches.values() for n in some]
    sizes = [len(waiting[n][0].passage.unit_spans) for n in order]
    features = dict(zip(order, torch.split(torch.cat(parts).cpu(), sizes), strict=True))
    for n, (_, signal) in enumerate(waiting):
        yield PooledSignal(features[n], signal.cached_tokens, signal.paused)


def _pool_alike(
    some: Sequence[tuple[Prompt, Signal]], pool: Pool, pool_batch: PoolBatch | None
) -> Tensor:
    """The features of one signal, or of several of one tensor: `[ΣU, F]`."""
    shared = [signal.shared for _, signal in some if signal.shared is not None]
    if pool_batch is None or not shared:
        ((prompt, signal),) = some
        return pool(signal, prompt.passage.unit_spans)
    return pool_batch(shared, [prompt.passage.unit_spans for prompt, _ in some])


def _window_groups(
    reader: Reader, windows: list[Window], question_count: int
) -> list[list[Window]]:
    """The windows to read with all questions before the next ones.

    All at once; with several questions and a cache, as many as it holds until the last question.
    """
    if question_count > 1 and isinstance(reader, CachedReader):
        return list(
            token_batches(windows, CACHED_GROUP_TOKENS, lambda window: len(window.tokens.ids))
        )
    return [windows] if windows else []


CONTEXT_TOKENS = 8192
"""The context length of a reader that states none."""
_OPENING_TOKENS = ("<bos>", "<s>", "<|begin_of_text|>")


def opening_token(template: Template) -> str:
    """The token that a proxy's prompts must begin with, such as Gemma's `<bos>`; empty for most."""
    return next((token for token in _OPENING_TOKENS if template.opening.startswith(token)), "")


def document_tokens_left(reader: Any, question: QuestionTokens, most: int) -> int:
    """How many tokens of documents one prompt holds beside its head and a question, up to `most`.

    Raises:
        BadInput: the question leaves no room.
    """
    longest = context_tokens(reader)
    room = longest - len(reader.layout.opening) - len(question.ids)
    if room < 1:
        raise BadInput(
            f"the question takes {len(question.ids)} tokens and {reader.card.name} takes "
            f"{longest}; shorten the question"
        )
    return min(most, room)


def context_tokens(reader: Any) -> int:
    """The number of tokens of the longest prompt that a reader takes."""
    return int(getattr(innermost_reader(reader), "context_tokens", CONTEXT_TOKENS))


def innermost_reader(reader: Any) -> Any:
    """The reader that knows the model, inside caches and other wrappers: a proxy, or the engine."""
    while not hasattr(reader, "context_tokens") and (inner := _wrapped_reader(reader)) is not None:
        reader = inner
    return reader


def _wrapped_reader(reader: Any) -> Any:
    """The reader that a reader wraps, such as a cache's proxy."""
    return getattr(reader, "proxy", None) or getattr(reader, "reader", None)
