"""The contract of a method: what a file in `methods/` holds, and what the pipelines call.

    Scorer          a value a unit: compression, and ranking by the best unit
    Ranker          a value a passage
    Orderer         the order in which passages are shown

A method file subclasses `ScoringMethod`, `RankingMethod` or `OrderingMethod`, which have a default
for every member but the one that does the work. Whatever stands in for a method (a lazily loaded
one, one under a deadline) implements the protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, Self

from tamis.compressors.options import Configured
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput
from tamis.probes.folder_registry import EntryInfo
from tamis.text.types import Passage, Unit

if TYPE_CHECKING:
    from tamis.probes.model.encoder import VectorSource

MethodKind = Literal["compression", "reranking", "ordering"]
Needs = Literal["nothing", "proxy", "encoder", "proxy+encoder"]


@dataclass(frozen=True, slots=True)
class MethodInfo(EntryInfo):
    """What `tamis methods` shows of a method.

    Attributes:
        needs: the models it reads with. Of `proxy+encoder` the encoder is optional: it is used
            where it is installed.
        kind: what it is for. A method of compression ranks passages, too.
        reads_words: whether its score means something for a unit of one word.
        research: whether it is a paper's, for comparison: it is reached by its name, and lists for
            users leave it out.
    """

    needs: Needs = "nothing"
    kind: MethodKind = "compression"
    reads_words: bool = False
    research: bool = False

    @property
    def needs_proxy(self) -> bool:
        """Whether the proxy must be loaded."""
        return "proxy" in self.needs

    @property
    def needs_encoder(self) -> bool:
        """Whether it reads with the sentence encoder, maybe only where there is one."""
        return "encoder" in self.needs


class ModelSource(Protocol):
    """The models that methods are built with, loaded when they are asked for."""

    @property
    def proxy_name(self) -> str:
        """The proxy's name, folder or hub id: profiles and probes that ship are found by it."""

    def reader(self, layers: int | None) -> Any:
        """A `Reader` of the proxy with at least so many layers; None for all.

        Raises:
            ProxyMissing: it is not on this machine.
        """

    def encoder(self) -> Any:
        """The sentence encoder.

        Raises:
            ProxyMissing: it is not on this machine.
        """

    def rank_encoders(self) -> tuple[Any, ...]:
        """The sentence encoders for rankings on this machine, the best for English first."""

    def cross_encoder(self, name: str) -> Any:
        """A cross-encoder by its name; an encoder's name is that of the one made of it.

        Raises:
            ProxyMissing: it is not on this machine.
        """

    @property
    def vector_source(self) -> VectorSource | None:
        """Where the encoder's vectors of known passages may be kept; None for nowhere."""


class HasInfo(Protocol):
    """Whatever says what it is."""

    @property
    def info(self) -> MethodInfo:
        """What it is for and what it needs."""


class Ranker(HasInfo, Protocol):
    """Ranks whole passages."""

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """One value a passage; higher is better.

        Args:
            units: of the passages; methods that read whole passages ignore them.
        """


class Scorer(Ranker, Protocol):
    """Scores every unit of some passages against a question.

    One that leaves out what cannot matter also has `reading_everything`.
    """

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a unit and one a passage; higher is better."""

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The probability down to which units are kept to keep all evidence this often.

        None where the method has no calibration that could promise it.

        Args:
            cautious: for a request unlike those of the calibration.
        """


class Orderer(Protocol):
    """Puts passages in the order in which a model shall read them."""

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Indexes of the passages in the order to show, each once.

        Args:
            passages: what will be shown of each.
            scores: one a passage, higher is better.
        """


class Method(Configured):
    """What every method file's class has: what it is, its options, how it is built from models.

    Its fields are the models that it reads with, `reader` and `encoder`, then its options, each
    made by `option`; what follows from them is set in `setup`.

    The class attribute `info` is written as one `MethodInfo(...)` of literals, so that it can be
    read without importing the file.
    """

    info: ClassVar[MethodInfo]
    first_stage_weight: ClassVar[float] = 0.5
    """The weight of the method's own scores where a first stage's are added; the first stage has
    the rest. Methods that set another have it fitted on training claims and BM25 lists. Figures:
    lab/log/ranking.md#2026-11-24-ranking-documents,
    lab/log/ranking.md#2026-11-26-two-models-rank-together."""

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """How many layers of a proxy have to be loaded; None, the default, for all.

        Args:
            model: the proxy's name. options: the method's own, as given by the caller.
        """
        return None

    @classmethod
    def uses_encoder(cls, model: str, options: Mapping[str, Any]) -> bool:
        """Whether the sentence encoder reads units, where it is installed.

        Args:
            model, options: as for `layers_needed`.
        """
        return cls.info.needs_encoder

    @classmethod
    def ships_for(cls, model: str) -> bool:
        """Whether all that it has to know of a proxy (probe, head profile) ships with tamis."""
        return True

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """The method with its models, the fields `reader` and `encoder`, and with its options.

        Raises:
            ProxyMissing: a model is not on this machine. BadInput: an option is out of range.
        """
        given: dict[str, Any] = {}
        if cls.info.needs_proxy:
            given["reader"] = models.reader(cls.layers_needed(models.proxy_name, options))
        if cls.info.needs_encoder:
            given["encoder"] = models.encoder()
        return cls(**given, **options)


class ScoringMethod(Method):
    """A method of compression: implement `scores`."""

    promises_coverage: ClassVar[bool] = False
    """Whether `coverage_threshold` may give one: for methods whose probe can be calibrated."""

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a unit and one a passage; higher is better."""
        raise NotImplementedError

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """Passages by the values that `scores` gives them."""
        return ranks_from_scores(self.scores(question, passages, units))

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """None: nothing is promised without a calibration."""
        return None

    def reading_everything(self) -> Self:
        """The same method, leaving nothing out."""
        return self


class TwoStepMethod(ScoringMethod):
    """A method of compression whose model runs in `read` alone: implement both halves."""

    reader: Any

    @property
    def reading_key(self) -> str:
        """All of the method's options, and its version, that `read` depends on, question aside."""
        raise NotImplementedError

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Any:
        """Runs the model: a `Reading`."""
        raise NotImplementedError

    def score_reading(
        self, reading: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """Scores what was read; no model runs."""
        raise NotImplementedError

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value a unit; a passage ranks by its best unit."""
        reading = self.read(question, passages, units)
        return self.score_reading(reading, question, passages, units)


class RankingMethod(Method):
    """A method of reranking: implement `rank`."""

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """One value a passage; higher is better."""
        raise NotImplementedError


class OrderingMethod(Method):
    """A method of ordering: implement `order`."""

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """Indexes of the passages in the order to show, each once."""
        raise NotImplementedError


def check_scores(info: MethodInfo, method: str) -> None:
    """Refuses a method that scores no units.

    Raises:
        BadInput: nothing can be kept by it; the message names what it is for.
    """
    if info.kind != "compression":
        way_out = {"reranking": "rank documents with it", "ordering": "give it as rules' order"}
        raise BadInput(
            f"{method} is a method of {info.kind} and scores no sentences to keep; "
            f"{way_out[info.kind]}, and compress with one that `tamis methods` lists under "
            "compression"
        )


def reading_everything(scorer: Scorer) -> Scorer:
    """The scorer, leaving nothing out: promises were calibrated on whole readings."""
    whole = getattr(scorer, "reading_everything", None)
    return scorer if whole is None else whole()


def ranks_from_scores(scores: Scores) -> Ranks:
    """The passages' values of a scoring as a ranking, with what it cost."""
    return Ranks(
        scores.passages,
        scores.values,
        scores.calibrated,
        scores.windows,
        scores.tokens_read,
        scores.timings_ms,
        scores.warnings,
        scores.tokens_cached,
    )


def best_unit_scores(
    values: Sequence[float], units: Sequence[Unit], passages: int
) -> tuple[float, ...]:
    """Each passage's best unit value `[P]`, for ranking; an empty passage gets the lowest."""
    lowest = min(values, default=0.0)
    best = [lowest] * passages
    for value, unit in zip(values, units, strict=True):
        best[unit.passage] = max(best[unit.passage], value)
    return tuple(best)


OrdererFactory = Callable[[str], Orderer]
"""Builds the ordering method of a name."""


def best_first(scores: Sequence[float]) -> list[int]:
    """Indexes by falling score; ties keep their order."""
    return sorted(range(len(scores)), key=lambda p: (-scores[p], p))


def at_both_ends(ranked: Sequence[int]) -> list[int]:
    """The best two at the ends, the worst in the middle: 0 2 4 .. 5 3 1."""
    return [*ranked[::2], *ranked[1::2][::-1]]
