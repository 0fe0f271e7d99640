"""Ways to shorten a tool's output to a number of tokens: tamis, what it did before, and plain ones.

output, limits ─► Shortened (text, its markers, ms), one a limit
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from tamis.compressors.method import Scorer
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.rules import Budget
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import Omission
from tamis.probes.errors import BudgetTooSmall
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.tools.records import LabelledOutput
from tamis_lab.bench.tools.validity import IsMarker


@dataclass(frozen=True, slots=True)
class Shortened:
    """A shortened output.

    Attributes:
        is_marker: whether a line, or a string in JSON, stands for what was left out.
        ms: what it took, from the text on.
        error: why there is no text.
    """

    text: str
    ms: float
    is_marker: IsMarker = lambda line: False
    error: str | None = None


class OutputCompressor(Protocol):
    """Whatever shortens the output of a tool."""

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """The output at each limit in tokens."""
        ...


class ToolCompressor:
    """tamis for tool outputs, with any scorer; a marker for each omission."""

    def __init__(self, scorer: Scorer, counter: TextTokenizer) -> None:
        self.scorer, self.counter = scorer, counter

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """Parsed and scored once, selected at each limit; each one's time has all of it."""
        clock = time.perf_counter()
        prepared = prepare_tool_outputs([labelled.output], labelled.question, self.counter)
        values = prepared.score(self.scorer)
        scored_ms = (time.perf_counter() - clock) * 1e3
        found = []
        for limit in limits:
            markers: set[str] = set()

            def mark(omission: Omission, into: set[str] = markers) -> str:
                text = default_marker(omission)
                into.update((text, json.dumps(text, ensure_ascii=False)))
                return text

            clock = time.perf_counter()
            (kept,) = prepared.select(values, [limit], mark)
            ms = scored_ms + (time.perf_counter() - clock) * 1e3
            found.append(Shortened(kept.text, ms, markers.__contains__))
        return found


class SentenceCompressor:
    """tamis for prose: an output is one passage, and the call with the question asks."""

    def __init__(self, scorer: Scorer, name: str, counter: TextTokenizer) -> None:
        self.compressor = Compressor(scorer, name, counter)

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """One compression a limit; nothing where no unit fits."""
        return [self._shorten(labelled, limit) for limit in limits]

    def _shorten(self, labelled: LabelledOutput, limit: int) -> Shortened:
        clock, text = time.perf_counter(), ""
        with suppress(BudgetTooSmall):
            passages = [Passage(labelled.text)]
            text = self.compressor.compress(labelled.asked, passages, Budget(limit)).text
        return Shortened(text, (time.perf_counter() - clock) * 1e3)


class LineCompressor:
    """Whole lines of a text, by some order, as many as fit; no markers."""

    def __init__(
        self,
        order: Callable[[LabelledOutput, Sequence[str]], list[int]],
        skips: bool,
        counter: TextTokenizer,
    ) -> None:
        """`order` gives the numbers of the lines, the first to be kept first.

        `skips`: whether lines are looked at behind the first that does not fit.
        """
        self.order, self.skips, self.counter = order, skips, counter

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """Ordered once, filled at each limit; the first tokens of the text where no line fits."""
        clock = time.perf_counter()
        lines = labelled.text.splitlines(keepends=True)
        costs, order = self.counter.count_many(lines), self.order(labelled, lines)
        ordered_ms = (time.perf_counter() - clock) * 1e3
        found = []
        for limit in limits:
            clock = time.perf_counter()
            kept = self._fill(order, costs, limit)
            text = "".join(lines[i] for i in kept) or self._first_tokens(labelled.text, limit)
            found.append(Shortened(text, ordered_ms + (time.perf_counter() - clock) * 1e3))
        return found

    def _fill(self, order: Sequence[int], costs: Sequence[int], limit: int) -> list[int]:
        used, kept = 0, []
        for i in order:
            if used + costs[i] <= limit:
                used += costs[i]
                kept.append(i)
            elif not self.skips:
                break
        return sorted(kept)

    def _first_tokens(self, text: str, limit: int) -> str:
        stop = len(text)
        while stop and self.counter.count(text[:stop]) > limit:
            stop = stop * 4 // 5
        return text[:stop]


def ends_first(labelled: LabelledOutput, lines: Sequence[str]) -> list[int]:
    """The first line, the last, the second, the last but one: head and tail of the same size."""
    pairs = zip(range(len(lines)), reversed(range(len(lines))), strict=True)
    return list(dict.fromkeys(i for pair in pairs for i in pair))


def best_lines_first(labelled: LabelledOutput, lines: Sequence[str]) -> list[int]:
    """Lines by BM25 against the call and the question."""
    at, units = 0, []
    for line in lines:
        units.append(Unit(0, at, at + len(line), (at, at + len(line)), "entry"))
        at += len(line)
    passage = Passage(labelled.text)
    values = Lexical().scores(labelled.asked, [passage], units).values
    return sorted(range(len(lines)), key=lambda i: -values[i])


PLAIN: dict[str, Callable[[TextTokenizer], OutputCompressor]] = {
    "head_tail": lambda counter: LineCompressor(ends_first, False, counter),
    "bm25_lines": lambda counter: LineCompressor(best_lines_first, True, counter),
    "sentences": lambda counter: SentenceCompressor(Lexical(), "lexical", counter),
}
"""Compressors that every row of tamis is compared with, by name."""
