"""What a method is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

Kind = Literal["compression", "reranking", "ordering"]


@dataclass(frozen=True, slots=True)
class Info:
    """What `tamis methods` says of a method.

    Attributes:
        summary: one line. source: the paper, or whose idea it is.
        needs: the model it cannot do without.
        kind: what it is for. A method of compression ranks passages too, by its passage scores.
        reads_words: whether its score means something for a unit of one word.
    """

    summary: str
    source: str
    needs: Literal["nothing", "proxy", "encoder"] = "nothing"
    kind: Kind = "compression"
    reads_words: bool = False


class Scorer(Protocol):
    """Scores every unit of some passages against a question."""

    info: ClassVar[Info]

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a unit and one a passage; higher is better."""
        ...


def check_scores(info: Info, method: str) -> None:
    """BadInput: a method that scores no sentences, so that nothing can be kept by it."""
    if info.kind != "compression":
        way_out = {"reranking": "rank documents with it", "ordering": "give it as rules' order"}
        raise BadInput(
            f"{method} is a method of {info.kind} and scores no sentences to keep; "
            f"{way_out[info.kind]}, and compress with one that `tamis methods` lists under "
            "compression"
        )


class Ranker(Protocol):
    """Ranks whole passages; a method of compression may rank them so, too."""

    info: ClassVar[Info]

    def ranks(self, question: str, passages: Sequence[Passage]) -> Ranks:
        """One value a passage; higher is better."""
        ...


def ranks_of(
    method: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
) -> Ranks:
    """What a method thinks of each passage: by its own ranking if it has one, else by its units."""
    found: Ranks
    if hasattr(method, "ranks"):
        found = method.ranks(question, passages)
        return found
    if hasattr(method, "ranked"):
        found = method.ranked(question, passages, units)
        return found
    scores = method.scores(question, passages, units)
    return Ranks(
        scores.passages,
        scores.values,
        scores.calibrated,
        scores.windows,
        scores.tokens_read,
        scores.timings_ms,
        tokens_cached=scores.tokens_cached,
    )


def best_of_passage(
    values: Sequence[float], units: Sequence[Unit], passages: int
) -> tuple[float, ...]:
    """One number a passage, for ranking: its best unit's value; an empty one gets the lowest."""
    floor = min(values, default=0.0)
    best = [floor] * passages
    for value, unit in zip(values, units, strict=True):
        best[unit.passage] = max(best[unit.passage], value)
    return tuple(best)
