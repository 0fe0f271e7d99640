"""A method under a deadline: what it read in time, and the rest by its words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tamis.compressors.method import MethodInfo, best_unit_scores, reading_everything
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.types import Ranks, Scores
from tamis.probes.text import Passage, Unit
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest, current_request


@dataclass(frozen=True, slots=True)
class UnderDeadline:
    """Stands in for a method: at the deadline its values are made of what was read so far.

    The deadline is that of the request that the thread works for; it holds no state of one.
    """

    method: Any

    @property
    def info(self) -> MethodInfo:
        """What the method is."""
        found: MethodInfo = self.method.info
        return found

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The method's threshold for a coverage; None where it promises none."""
        threshold: float | None = self.method.coverage_threshold(coverage, cautious)
        return threshold

    def reading_everything(self) -> UnderDeadline:
        """The method that leaves nothing out, under the same deadline."""
        return UnderDeadline(reading_everything(self.method))

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The method's scores; units that were not read in time get theirs by their lexical rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        read: Scores | None = None
        with _until_deadline() as request:
            read = self.method.scores(question, passages, units)
        if read is None and request is not None:
            return self._partial_scores(request, question, passages, units)
        return read

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The method's values; passages that were not read in time get theirs by their lexical
        rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        read: Ranks | None = None
        with _until_deadline() as request:
            read = self.method.rank(question, passages, units)
        if read is None and request is not None:
            return self._partial_ranks(request, question, passages, units)
        return read

    def _partial_scores(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Scores:
        by_words = Lexical().scores(question, passages, units)
        known = request.units_read(len(units))
        read: Scores | None = None
        if known:
            with request.answering_from_completed():
                try:
                    read = self.method.scores(question, passages, units[:known])
                except OutOfTime:  # it reads twice and did not get to its second reading
                    read = None
        if read is None:
            return replace(by_words, units_read=0, is_late=True)
        values = (*read.values, *values_by_rank(by_words.values, known, read.values))
        best = best_unit_scores(values, units, len(passages))
        late = replace(read, verdict=None, reason="not all was read in time", is_late=True)
        return replace(late, values=values, passages=best, units_read=known)

    def _partial_ranks(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Ranks:
        by_words = Lexical().rank(question, passages, units)
        known = request.units_read(len(units))
        whole = len(passages) if known == len(units) else units[known].passage
        read: Ranks | None = None
        if whole:
            own = [unit for unit in units if unit.passage < whole]
            with request.answering_from_completed():
                try:
                    read = self.method.rank(question, passages[:whole], own)
                except OutOfTime:  # it reads the passages together, or twice
                    read = None
        warning = (
            f"{whole if read else 0} of {len(passages)} documents were read in time; "
            "the others were placed by their words"
        )
        if read is None:
            return Ranks(by_words.values, warnings=(warning,), passages_read=0)
        late = values_by_rank(by_words.values, whole, read.values)
        late_units = values_by_rank(by_words.units, len(read.units), read.units or (0.0,))
        return replace(
            read,
            values=(*read.values, *late),
            units=(*read.units, *late_units) if read.units else (),
            warnings=(*read.warnings, warning),
            passages_read=whole,
        )


@contextmanager
def _until_deadline() -> Iterator[QueuedRequest | None]:
    """The thread's request; the block ends without an error where the request's deadline came."""
    request = current_request()
    try:
        with nullcontext() if request is None else request.stopping_at_deadline():
            yield request
    except OutOfTime:
        if request is None or request.fault is not None:
            raise


def values_by_rank(words: Sequence[float], known: int, read: Sequence[float]) -> list[float]:
    """For each unit after the first `known`, the `read` value at the unit's rank by `words`."""
    ranks = np.searchsorted(np.sort(words), words[known:], side="left") / max(len(words) - 1, 1)
    return [float(v) for v in np.quantile(np.asarray(read, dtype=np.float64), np.clip(ranks, 0, 1))]
