"""One request to rerank: prepared without a model, ranked by one, and sorted.

documents ─ each distinct one once ─ method ─► own scores ─┬─ fuse ─► results, best first
                       the caller's first-stage scores ────┘
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tamis.compressors.features.rank_fusion import FirstStage, FusionMode, first_scores, fuse_ranks
from tamis.compressors.method import Ranker
from tamis.compressors.types import Ranked, Ranks, Reranked, check_result_type, check_values
from tamis.probes.errors import BadInput
from tamis.text.inputs import (
    check_field_names,
    check_list,
    check_question,
    header_warnings,
    is_number,
    is_whole,
    read_before,
    to_passage,
    with_headers,
)
from tamis.text.language import AUTO, resolve_language
from tamis.text.types import Passage, Unit, units_among
from tamis.text.units.segment import units_of


class Reranker:
    """A method that sorts documents, alone or together with a first stage."""

    def __init__(self, ranker: Ranker, name: str) -> None:
        self.ranker, self.name = ranker, name

    def rerank(
        self,
        question: str,
        documents: Sequence[Passage | str | Mapping[str, Any]],
        *,
        top_n: int | None = None,
        first_stage: FirstStage | None = None,
        fuse: FusionMode | None = None,
        min_score: float | None = None,
        read_metadata: Sequence[str] = (),
        language: str = AUTO,
    ) -> Reranked:
        """Ranks documents by how well they answer the question.

        A document that occurs twice is read once. A document without text is not read: its own
        score is minus infinity, 0.0 where scores are probabilities, and it is behind all others.
        Documents that tie keep the order they came in.

        Args:
            question: what is asked.
            documents: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or
                `Passage`s; of any number and length.
            top_n: how many results to return; None for all. All are read all the same.
            first_stage: the scores of what found them: one per document, higher is better, or
                `"order"` where the documents come best first.
            fuse: how both are joined, as for `fuse_ranks`; None is `"fitted"`.
            min_score: leave out documents whose own probability is lower, from 0 to 1; it means the
                same for every question, whatever a first stage adds.
            read_metadata: fields of the documents' metadata that are read with them, such as `date`
                and `speaker`, on a line before the title.
            language: of the documents, for finding sentences; `auto` detects it.

        Raises:
            BadInput: an empty question, a malformed document, scores that do not fit, a `fuse`
                without a first stage, a `min_score` of a method that gives no probabilities.
        """
        prepared = prepare_ranking(
            question,
            documents,
            top_n=top_n,
            first_stage=first_stage,
            fuse=fuse,
            min_score=min_score,
            read_metadata=read_metadata,
            language=language,
        )
        return self.sort(prepared, self.rank(prepared))

    def sort(self, prepared: PreparedRanking, ranks: Ranks) -> Reranked:
        """The documents, best first, by the method's values and the first stage's; no model runs.

        Args:
            ranks: of the distinct documents, as `rank` gives them.

        Raises:
            BadInput: a `min_score`, and the ranks are not probabilities.
        """
        least = prepared.min_score
        if least is not None and not ranks.calibrated:
            raise BadInput(
                f"min_score is a probability, and {self.name} gives none of these documents; leave "
                "it out, or give a method that does, such as question_rows"
            )
        distinct, units, first = prepared.distinct, prepared.units, prepared.first
        given = prepared.given
        own = [ranks.values[d] for d in distinct.place]
        score = own
        if first is not None:
            score = fuse_ranks(own, first, prepared.fuse, self.name, ranks.calibrated)
        ranked = [i for i in range(len(given)) if least is None or own[i] >= least]
        order = sorted(ranked, key=lambda i: (-score[i], i))
        if ranks.calibrated:
            own = [0.0 if value == -math.inf else value for value in own]
        score = own if first is None else score
        shown, scores = distinct.spread_units(given, units, ranks.units, prepared.language)
        timings = {"segment": prepared.segment_ms} | dict(ranks.timings_ms)
        timings["total"] = (time.perf_counter() - prepared.started) * 1e3
        return Reranked(
            tuple(
                Ranked(i, score[i], own[i], None if first is None else first[i])
                for i in order[: prepared.top_n]
            ),
            given,
            shown,
            scores,
            self.name,
            ranks.calibrated,
            ranks.windows,
            ranks.tokens_read,
            timings,
            (*ranks.warnings, *prepared.warnings),
            ranks.tokens_cached,
        )

    def rank(self, prepared: PreparedRanking) -> Ranks:
        """The method's values of the distinct documents; it is not handed those without text."""
        question, distinct, units = prepared.question, prepared.distinct, prepared.units
        with_text = sorted({unit.passage for unit in units})
        if not with_text:
            return Ranks((-math.inf,) * len(distinct.passages))
        if len(with_text) == len(distinct.passages):
            return self._ranks(question, distinct.passages, units)
        moved = units_among(units, with_text)
        found = self._ranks(question, [distinct.passages[p] for p in with_text], moved)
        values = [-math.inf] * len(distinct.passages)
        for passage, value in zip(with_text, found.values, strict=True):
            values[passage] = value
        return replace(found, values=tuple(values))

    def _ranks(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        found = check_result_type(self.ranker.rank(question, passages, units), Ranks, self.name)
        known = [0.0 if value == -math.inf else value for value in found.values]  # not read
        check_values(known, len(passages), "scores", "passages")
        return found


@dataclass(frozen=True, slots=True)
class PreparedRanking:
    """A request to rerank that was checked and segmented; no model has run.

    Attributes:
        given: the documents. distinct: those that are read, with their `units`.
        first: the first stage's score of each document. min_score: the least probability of a
            document that is returned. warnings: about the documents.
        segment_ms: milliseconds so far. started: `time.perf_counter()` when the request began.
    """

    question: str
    given: tuple[Passage, ...]
    distinct: DistinctPassages
    units: Sequence[Unit]
    language: str
    top_n: int | None
    first: Sequence[float] | None
    fuse: FusionMode | None
    min_score: float | None
    warnings: Sequence[str]
    started: float
    segment_ms: float


def prepare_ranking(
    question: str,
    documents: Sequence[Passage | str | Mapping[str, Any]],
    *,
    top_n: int | None = None,
    first_stage: FirstStage | None = None,
    fuse: FusionMode | None = None,
    min_score: float | None = None,
    read_metadata: Sequence[str] = (),
    language: str = AUTO,
) -> PreparedRanking:
    """Checks and segments a request; arguments and errors as for `Reranker.rerank`."""
    started = time.perf_counter()
    _check_request(question, documents, top_n, min_score)
    given = tuple(to_passage(document, i) for i, document in enumerate(documents))
    given = with_headers(given, check_field_names(read_metadata))
    first = first_scores(first_stage, len(given), fuse)
    distinct = DistinctPassages.find(given)
    language = resolve_language(language, question, [p.text for p in distinct.passages])
    units = units_of(distinct.passages, language)
    segment_ms = (time.perf_counter() - started) * 1e3
    return PreparedRanking(
        *(question, given, distinct, units, language, top_n),
        *(first, fuse, min_score, header_warnings(given, read_metadata), started, segment_ms),
    )


@dataclass(frozen=True, slots=True)
class DistinctPassages:
    """Passages that differ in title, text or units, and for each one given its place among them."""

    passages: tuple[Passage, ...]
    place: tuple[int, ...]

    @classmethod
    def find(cls, given: Sequence[Passage]) -> DistinctPassages:
        places: dict[tuple[Any, ...], int] = {}
        keys = ((read_before(p), p.text, p.pieces) for p in given)
        place = tuple(places.setdefault(key, len(places)) for key in keys)
        firsts = dict(reversed(list(zip(place, given, strict=True))))
        return cls(tuple(firsts[d] for d in range(len(places))), place)

    def spread_units(
        self,
        given: Sequence[Passage],
        units: Sequence[Unit],
        values: Sequence[float],
        language: str,
    ) -> tuple[tuple[Unit, ...], tuple[float, ...]]:
        """Repeats units and scores for duplicate passages; empty if the method scores no units."""
        if not values:
            return (), ()
        if len(self.passages) == len(given):
            return tuple(units), tuple(values)
        mine: list[list[float]] = [[] for _ in self.passages]
        for unit, value in zip(units, values, strict=True):
            mine[unit.passage].append(value)
        return tuple(units_of(given, language)), tuple(v for d in self.place for v in mine[d])


def _check_request(question: Any, documents: Any, top_n: Any, min_score: Any) -> None:
    check_question(question, "documents are ranked by how they answer a question")
    check_list(documents, "documents")
    if top_n is not None and not (is_whole(top_n) and top_n >= 1):
        raise BadInput(f"top_n is {top_n!r}; give a whole number of at least 1, or leave it out")
    if min_score is not None and not (is_number(min_score) and 0 <= min_score <= 1):
        raise BadInput(f"min_score is {min_score!r}; give a probability from 0 to 1")
