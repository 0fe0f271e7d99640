"""A needle at every depth of haystacks of every length: is its sentence kept?

    text ─ passages ─┬─ needle at a depth ─► method ─► rank of the needle, kept within the budget?
                     └─ the same for every cell: a window that was read is not read again

Methods that read windows alone read the haystack once and then the needle's window only, at all
depths and lengths; methods that read passages together read every cell anew.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.compressors.method import Scorer
from tamis.compressors.pipeline.compression import DEFAULT_RULES
from tamis.compressors.selection.select import select
from tamis.compressors.types import Budget
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Ask, Prompt, Read, Template
from tamis.probes.segmentation.segment import units_of
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.datasets.signal_readings import Signals

PASSAGE_TOKENS = 400
NEEDLE = (
    "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park "
    "on a sunny day."
)
QUESTION = "What is the best thing to do in San Francisco?"


class Remembering:
    """A reader that keeps what it saw of each prompt: the same prompt is not read again.

    Attributes:
        tokens_read: tokens of the prompts that were read, now or by an earlier run.
        ms_before: what reading took in earlier runs, of the prompts that were not read again.
    """

    def __init__(self, reader: Any, folder: Path | None = None) -> None:
        """With a folder, what was seen outlives the run."""
        self.reader, self.card, self.layout = reader, reader.card, reader.layout
        self.tokens_read, self.ms_before, self.folder = 0, 0.0, folder
        self._kept = Signals(folder, reader) if folder else None
        self._seen: dict[tuple[Read, Ask, Want], Signal] = {}

    def with_template(self, template: Template) -> Remembering:
        """The same model, in other words; nothing seen is shared."""
        return Remembering(self.reader.with_template(template), self.folder)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        new = {(p.read, p.ask, want): p for p in prompts if (p.read, p.ask, want) not in self._seen}
        self.tokens_read += sum(map(len, new.values()))
        due = {key: p for key, p in new.items() if not self._found(key, p)}
        clock = time.perf_counter()
        for key, signal in zip(due, self.reader.read(list(due.values()), want), strict=True):
            ms, clock = (time.perf_counter() - clock) * 1e3, time.perf_counter()
            kept = self._kept.put(due[key], want, signal, ms).signal if self._kept else signal
            self._seen[key] = kept
        yield from (self._seen[p.read, p.ask, want] for p in prompts)

    def _found(self, key: tuple[Read, Ask, Want], prompt: Prompt) -> bool:
        """Whether an earlier run saw a prompt; then it is remembered."""
        kept = self._kept.get(prompt, key[2]) if self._kept else None
        if kept is not None:
            self._seen[key] = kept.signal
            self.ms_before += kept.ms
        return kept is not None


@dataclass(frozen=True, slots=True)
class Cell:
    """One depth of one length.

    Attributes:
        length: tokens of the haystack that were asked for. depth: of the needle, from 0 to 1.
        tokens: of the haystack with the needle, as the budget counts.
        rank: of the needle's unit among all, from 1. kept: whether it is in the output.
        tokens_read: how many tokens the model ran for this cell alone.
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
    """Passages of whole sentences, and where each may be cut open."""

    passages: tuple[Passage, ...]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, text: str, counter: Tokens, most_tokens: int) -> Haystack:
        """The opening of a text, up to so many tokens, in passages of about `PASSAGE_TOKENS`.

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
            if sum(tokens) >= most_tokens:
                return cls(tuple(passages), tuple(tokens))
            size += own
        if sum(tokens) + size < most_tokens:
            raise BadInput(
                f"the haystack has {sum(tokens) + size:,} tokens and {most_tokens:,} are wanted; "
                "give a longer --text, or several"
            )
        return cls((*passages, Passage(text[start:])), (*tokens, size))

    def upto(self, most_tokens: int) -> tuple[Passage, ...]:
        """The first passages, as many as reach so many tokens."""
        total = 0
        for p, size in enumerate(self.tokens):
            total += size
            if total >= most_tokens:
                return self.passages[: p + 1]
        return self.passages


def with_needle(
    passages: Sequence[Passage], needle: str, depth: float
) -> tuple[list[Passage], int]:
    """The passages with the needle between two sentences at a depth, and which one holds it."""
    place = min(int(depth * len(passages)), len(passages) - 1)
    text = passages[place].text
    starts = [unit.start for unit in units_of([passages[place]])] or [0]
    inner = depth * len(passages) - place
    at = len(text) if inner >= 1 else starts[min(int(inner * len(starts)), len(starts) - 1)]
    before = text[:at] + ("" if not at or text[:at][-1:].isspace() else " ")
    opened = Passage(f"{before}{needle} {text[at:]}")
    return [*passages[:place], opened, *passages[place + 1 :]], place


def sweep(
    scorer: Scorer,
    reader: Remembering | None,
    haystack: Haystack,
    sizes: Sequence[int],
    depths: Sequence[float],
    max_tokens: int,
    counter: Tokens,
    needle: str = NEEDLE,
    question: str = QUESTION,
) -> Iterator[Cell]:
    """Every depth of every length, the shortest length first.

    Args:
        max_tokens: budget of the output.
        reader: what the scorer reads with, to count what it reads; None for a method without one.
    """
    for size in sorted(sizes):
        for depth in depths:
            passages, place = with_needle(haystack.upto(size), needle, depth)
            tokens_before, ms_before = _spent(reader)
            rank, kept, units, ms = _cell(
                scorer, passages, place, needle, question, Budget(max_tokens), counter
            )
            tokens_read, ms_earlier = _spent(reader)
            tokens = sum(counter.count_many([passage.text for passage in passages]))
            ms += ms_earlier - ms_before
            read = tokens_read - tokens_before
            yield Cell(size, depth, tokens, rank, kept, units, ms, read)


def _spent(reader: Remembering | None) -> tuple[int, float]:
    """Tokens read so far, and the milliseconds of earlier runs that they took."""
    return (reader.tokens_read, reader.ms_before) if reader else (0, 0.0)


def _cell(
    scorer: Scorer,
    passages: Sequence[Passage],
    place: int,
    needle: str,
    question: str,
    budget: Budget,
    counter: Tokens,
) -> tuple[int, bool, int, float]:
    """Rank of the needle's best unit, whether all of it is kept, units, milliseconds."""
    clock = time.perf_counter()
    units = units_of(passages)
    scores = scorer.scores(question, passages, units)
    ms = (time.perf_counter() - clock) * 1e3
    own = [u for u, unit in enumerate(units) if _holds(unit, passages, place, needle)]
    best = max(scores.values[u] for u in own)
    rank = 1 + sum(value > best for value in scores.values)
    kept = select(passages, units, scores.values, scores.passages, budget, DEFAULT_RULES, counter)
    return rank, needle in kept.text, len(units), ms


def _holds(unit: Unit, passages: Sequence[Passage], place: int, needle: str) -> bool:
    """Whether a unit shares a character with the needle."""
    if unit.passage != place:
        return False
    start = passages[place].text.index(needle)
    return unit.start < start + len(needle) and start < unit.stop
