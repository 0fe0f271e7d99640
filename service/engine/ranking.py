"""One ranking with a deadline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tamis.compressors.method import MethodInfo, Ranker
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.types import Ranks
from tamis.probes.text import Passage, Unit
from tamis.service.engine.deadline import values_by_rank
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest, current_request


@dataclass(slots=True)
class DeadlineRanker:
    """Wraps a method for one request: at the deadline its ranks are made of what was read so far.

    Attributes:
        passages_read: passages that were read in time, from the first on; None where all were.
    """

    ranker: Ranker
    passages_read: int | None = None

    @property
    def info(self) -> MethodInfo:
        """What the wrapped method is."""
        return self.ranker.info

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The wrapped method's values; passages not read in time get theirs by their lexical rank.

        Raises:
            OutOfTime: the request has ended, so nobody waits for the answer.
        """
        request = current_request()
        if request is None or request.deadline is None:
            return self.ranker.rank(question, passages, units)
        try:
            with request.stopping_at_deadline():
                return self.ranker.rank(question, passages, units)
        except OutOfTime:
            if request.fault is not None:
                raise
            return self._partial_ranks(request, question, passages, units)

    def _partial_ranks(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Ranks:
        """The method's values of the passages that were read; the rest by their lexical rank."""
        known = request.units_read(len(units))
        whole = len(passages) if known == len(units) else units[known].passage
        own = [unit for unit in units if unit.passage < whole]
        read = self._replay_ranks(request, question, passages[:whole], own) if whole else None
        self.passages_read = 0 if read is None else whole
        by_words = Lexical().rank(question, passages, units)
        warning = (
            f"{self.passages_read} of {len(passages)} documents were read in time; "
            "the others were placed by their words"
        )
        if read is None:
            return Ranks(by_words.values, warnings=(warning,))
        late = values_by_rank(by_words.values, whole, read.values)
        late_units = values_by_rank(by_words.units, len(read.units), read.units or (0.0,))
        return replace(
            read,
            values=(*read.values, *late),
            units=(*read.units, *late_units) if read.units else (),
            warnings=(*read.warnings, warning),
        )

    def _replay_ranks(
        self,
        request: QueuedRequest,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Ranks | None:
        """The method's values of the first passages, from the signals that came in time."""
        with request.answering_from_completed():
            try:
                return self.ranker.rank(question, passages, units)
            except OutOfTime:  # it reads the passages together, or twice
                return None
