"""A needle sentence at every depth of haystacks of every length: is it kept?

    text ─ passages ─┬─ needle at a depth ─► method ─► rank of the needle, kept within the budget?
                     └─ the same in every cell: a window that was read is not read again

Methods that read each window alone read the haystack once, and then only the needle's window at
each depth and length; methods that read passages together read everything in every cell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.compressors.method import Scorer
from tamis.compressors.rules import DEFAULT_RULES, Budget
from tamis.compressors.selection.select import select
from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens, Template
from tamis.probes.segmentation.segment import units_of
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis_lab.datasets.reading_store import SignalReadings

PASSAGE_TOKENS = 400
NEEDLE = (
    "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park "
    "on a sunny day."
)
QUESTION = "What is the best thing to do in San Francisco?"
PromptKey = tuple[PassageTokens, QuestionTokens, Want]


class MemoizedReader:
    """A reader that keeps the signal of each prompt, so that no prompt is read twice.

    Attributes:
        tokens_read: tokens of the different prompts, whether read now or by an earlier run.
        ms_before: milliseconds that earlier runs took to read the prompts found on disk.
    """

    def __init__(self, reader: Any, folder: Path | None = None) -> None:
        """With a folder, signals are also kept on disk for later runs."""
        self.reader, self.card, self.layout = reader, reader.card, reader.layout
        self.tokens_read, self.ms_before, self.folder = 0, 0.0, folder
        self._store = SignalReadings(folder, reader) if folder else None
        self._signals: dict[PromptKey, Signal] = {}

    def with_template(self, template: Template) -> MemoizedReader:
        """A reader of the same model with another template; it shares no signals with this one."""
        return MemoizedReader(self.reader.with_template(template), self.folder)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        keys = {(prompt.passage, prompt.question, want): prompt for prompt in prompts}
        new = {key: prompt for key, prompt in keys.items() if key not in self._signals}
        self.tokens_read += sum(map(len, new.values()))
        unread = {key: prompt for key, prompt in new.items() if not self._load_signal(key, prompt)}
        clock = time.perf_counter()
        for key, signal in zip(unread, self.reader.read(list(unread.values()), want), strict=True):
            ms, clock = (time.perf_counter() - clock) * 1e3, time.perf_counter()
            stored = (
                self._store.put(unread[key], want, signal, ms).signal if self._store else signal
            )
            self._signals[key] = stored
        yield from (self._signals[p.passage, p.question, want] for p in prompts)

    def _load_signal(self, key: PromptKey, prompt: Prompt) -> bool:
        """Loads the signal of a prompt that an earlier run read; False if there is none."""
        stored = self._store.get(prompt, key[2]) if self._store else None
        if stored is not None:
            self._signals[key] = stored.signal
            self.ms_before += stored.ms
        return stored is not None


@dataclass(frozen=True, slots=True)
class NeedleCell:
    """The result at one depth and length.

    Attributes:
        length: tokens of the haystack that were requested.
        depth: of the needle, from 0 to 1.
        tokens: of the haystack with the needle, as the budget counts them.
        rank: of the needle's unit among all units, from 1.
        kept: whether the needle is in the output.
        units: how many there are. ms: of scoring.
        tokens_read: how many tokens the model read for this cell alone.
    """

    length: int
    depth: float
    tokens: int
    rank: int
    kept: bool
    units: int
    ms: float
    tokens_read: int


@dataclass(frozen=True, slots=True)
class Haystack:
    """Passages of whole sentences, and the number of tokens in each."""

    passages: tuple[Passage, ...]
    tokens: tuple[int, ...]

    @classmethod
    def from_text(cls, text: str, counter: TextTokenizer, min_tokens: int) -> Haystack:
        """The beginning of a text, of at least `min_tokens`, in passages of about `PASSAGE_TOKENS`.

        Raises:
            BadInput: the text is shorter.
        """
        units = units_of([Passage(text)])
        sizes = counter.count_many([text[unit.start : unit.stop] for unit in units])
        passages, tokens, start, size = [], [], 0, 0
        for unit, own in zip(units, sizes, strict=True):
            if size and size + own > PASSAGE_TOKENS:
                passages.append(Passage(text[start : unit.start]))
                tokens.append(size)
                start, size = unit.start, 0
            if sum(tokens) >= min_tokens:
                return cls(tuple(passages), tuple(tokens))
            size += own
        if sum(tokens) + size < min_tokens:
            raise BadInput(
                f"the haystack has {sum(tokens) + size:,} tokens and {min_tokens:,} are wanted; "
                "give a longer --text, or several"
            )
        return cls((*passages, Passage(text[start:])), (*tokens, size))

    def first_passages(self, min_tokens: int) -> tuple[Passage, ...]:
        """The fewest first passages that have so many tokens, or all passages."""
        total = 0
        for p, size in enumerate(self.tokens):
            total += size
            if total >= min_tokens:
                return self.passages[: p + 1]
        return self.passages


def insert_needle(
    passages: Sequence[Passage], needle: str, depth: float
) -> tuple[list[Passage], int]:
    """Passages with the needle between two sentences at a depth, and the index of its passage."""
    index = min(int(depth * len(passages)), len(passages) - 1)
    text = passages[index].text
    starts = [unit.start for unit in units_of([passages[index]])] or [0]
    inner = depth * len(passages) - index
    at = len(text) if inner >= 1 else starts[min(int(inner * len(starts)), len(starts) - 1)]
    before = text[:at] + ("" if not at or text[:at][-1:].isspace() else " ")
    with_needle = Passage(f"{before}{needle} {text[at:]}")
    return [*passages[:index], with_needle, *passages[index + 1 :]], index


def sweep_needle(
    scorer: Scorer,
    reader: MemoizedReader | None,
    haystack: Haystack,
    sizes: Sequence[int],
    depths: Sequence[float],
    max_tokens: int,
    counter: TextTokenizer,
    needle: str = NEEDLE,
    question: str = QUESTION,
) -> Iterator[NeedleCell]:
    """Yields every depth of every length, the shortest length first.

    Args:
        reader: the scorer's reader, which counts what is read; None for a method without one.
        sizes: of the haystack, in tokens.
        max_tokens: budget of the output.
    """
    for size in sorted(sizes):
        for depth in depths:
            passages, index = insert_needle(haystack.first_passages(size), needle, depth)
            tokens_before, ms_before = _reading_cost(reader)
            rank, kept, units, ms = _score_cell(
                scorer, passages, index, needle, question, Budget(max_tokens), counter
            )
            tokens_read, ms_earlier = _reading_cost(reader)
            tokens = sum(counter.count_many([passage.text for passage in passages]))
            ms += ms_earlier - ms_before
            read = tokens_read - tokens_before
            yield NeedleCell(size, depth, tokens, rank, kept, units, ms, read)


def _reading_cost(reader: MemoizedReader | None) -> tuple[int, float]:
    """Tokens read so far, and the milliseconds that earlier runs took for some of them."""
    return (reader.tokens_read, reader.ms_before) if reader else (0, 0.0)


def _score_cell(
    scorer: Scorer,
    passages: Sequence[Passage],
    index: int,
    needle: str,
    question: str,
    budget: Budget,
    counter: TextTokenizer,
) -> tuple[int, bool, int, float]:
    """Rank of the needle's best unit, whether the whole needle is kept, units, milliseconds."""
    clock = time.perf_counter()
    units = units_of(passages)
    scores = scorer.scores(question, passages, units)
    ms = (time.perf_counter() - clock) * 1e3
    own = [u for u, unit in enumerate(units) if _overlaps_needle(unit, passages, index, needle)]
    best = max(scores.values[u] for u in own)
    rank = 1 + sum(value > best for value in scores.values)
    kept = select(passages, units, scores.values, scores.passages, budget, DEFAULT_RULES, counter)
    return rank, needle in kept.text, len(units), ms


def _overlaps_needle(unit: Unit, passages: Sequence[Passage], index: int, needle: str) -> bool:
    """Whether a unit shares a character with the needle, which is in the passage of this index."""
    if unit.passage != index:
        return False
    start = passages[index].text.index(needle)
    return unit.start < start + len(needle) and start < unit.stop
