"""What a method is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

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
