"""One compression in two stages: `prepare` needs no model, `finish` scores and selects.

passages ─ segment ─► units ─ does it fit? ─ yes ─► whole, no model is used
                                   └─ no ─► scores ─ select under the budget ─► text, spans
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tamis.compressors.features.coverage import (
    check_threshold,
    is_unanswerable,
    resolve_coverage,
    unanswerable_warning,
    unlike_warning,
)
from tamis.compressors.inputs import (
    COMPRESSION_REASON,
    check_keep,
    check_list,
    check_question,
    parse_keep_tags,
    to_passage,
)
from tamis.compressors.method import Orderer, Scorer, check_scores, reading_everything
from tamis.compressors.rules import DEFAULT_RULES, PLAIN_ORDERS, Budget, Rules
from tamis.compressors.selection.granularity import check_granularity, merge_units, split_words
from tamis.compressors.selection.order import OrdererFactory
from tamis.compressors.selection.rendering import render_whole, render_without_citations
from tamis.compressors.selection.select import select
from tamis.compressors.types import Compressed, KeptUnit, Scores, SelectedUnits, Status
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO, resolve_language
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import TextTokenizer


@dataclass(frozen=True, slots=True)
class PreparedCompression:
    """A request that was checked and segmented; no model has run.

    Attributes:
        budget: with a coverage as the threshold that the method's calibration gives it.
        whole: the context as it came, with what the rules show around it.
        tokens_in: tokens of the context without that.
        fits: whether it is returned whole, so that no model is needed.
        orderer: the method that `rules.order` names, if it is one.
        timings_ms: of the stages so far. started: `time.perf_counter()` when the request began.
        coverage: that was asked for, which `budget` has as a threshold.
    """

    question: str
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    budget: Budget
    rules: Rules
    counter: TextTokenizer
    whole: SelectedUnits
    tokens_in: int
    fits: bool
    orderer: Orderer | None
    started: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)
    coverage: float | None = None

    def with_budget(self, budget: Budget) -> PreparedCompression:
        """The same request with another budget in tokens or another threshold."""
        fits = context_fits(budget, self.tokens_in, self.whole, self.rules)
        return replace(self, budget=budget, fits=fits, coverage=None)

    def select(
        self, scores: Scores, rules: Rules, order: Sequence[int] | None = None
    ) -> SelectedUnits:
        """The units that stay under the budget."""
        return select(
            self.passages,
            self.units,
            scores.values,
            scores.passages,
            self.budget,
            rules,
            self.counter,
            order,
            scores.calibrated,
        )


class Compressor:
    """A method with a tokenizer that counts the budget."""

    def __init__(
        self,
        scorer: Scorer,
        name: str,
        counter: TextTokenizer,
        orderers: OrdererFactory | None = None,
    ) -> None:
        """`orderers` gives the methods of ordering that `Rules.order` may name.

        Raises:
            BadInput: a method that scores no sentences.
        """
        check_scores(scorer.info, name)
        self.scorer, self.name, self.counter = scorer, name, counter
        self.orderers = orderers

    def compress(
        self,
        question: str,
        passages: Sequence[Passage | str | Mapping[str, Any]],
        budget: Budget,
        rules: Rules = DEFAULT_RULES,
        *,
        language: str = AUTO,
        counter: TextTokenizer | None = None,
    ) -> Compressed:
        """Keeps the sentences that answer the question, verbatim, within the budget.

        A context that fits is returned whole, and no model is used; so is one that a budget in
        tokens does not limit. A threshold or a coverage needs the model all the same.

        Args:
            question: what is asked.
            passages: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or
                `Passage`s.
            budget: how much may be kept.
            rules: how units are chosen and shown.
            language: of the passages, for finding sentences; `auto` detects it.
            counter: the tokenizer to count with, instead of the compressor's own.

        Raises:
            BadInput: an empty question, or a malformed passage.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        prepared = self.prepare(
            question, passages, budget, rules, language=language, counter=counter
        )
        return self.finish(prepared)

    def prepare(
        self,
        question: str,
        passages: Sequence[Passage | str | Mapping[str, Any]],
        budget: Budget,
        rules: Rules = DEFAULT_RULES,
        *,
        language: str = AUTO,
        counter: TextTokenizer | None = None,
    ) -> PreparedCompression:
        """Checks and segments a request and counts its context; arguments as for `compress`.

        Raises:
            BadInput: an empty question, or a malformed passage.
        """
        check_question(question, COMPRESSION_REASON)
        check_list(passages, "passages")
        check_granularity(rules.granularity, self.scorer, self.name)
        orderer = self._orderer(rules)
        coverage, budget = budget.coverage, resolve_coverage(budget, self.scorer, self.name)
        counter = counter or self.counter
        started = time.perf_counter()
        context = tuple(to_passage(p, i) for i, p in enumerate(passages))
        check_keep(context)
        if rules.keep_tags:
            context = tuple(parse_keep_tags(p, i) for i, p in enumerate(context))
        units = units_of(context, resolve_language(language, question, [p.text for p in context]))
        if rules.granularity == "token":
            units = split_words(context, units)
        everything, tokens_in = count_whole_context(context, units, rules, counter)
        return PreparedCompression(
            question,
            context,
            tuple(units),
            budget,
            rules,
            counter,
            everything,
            tokens_in,
            context_fits(budget, tokens_in, everything, rules),
            orderer,
            started,
            {"segment": (time.perf_counter() - started) * 1e3},
            coverage,
        )

    def finish(self, prepared: PreparedCompression) -> Compressed:
        """The compression of a prepared request; the model runs unless the context fits.

        Raises:
            BadInput: a threshold, and the method gives no probabilities.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        if prepared.fits:
            return self._whole_result(prepared, prepared.whole)
        if not prepared.units:  # white space at most, and more of it than the budget
            return self._whole_result(prepared, SelectedUnits((), "", 0))
        scorer = reading_everything(self.scorer) if _needs_promises(prepared) else self.scorer
        scores = scorer.scores(prepared.question, prepared.passages, prepared.units)
        if (granularity := prepared.rules.granularity) in ("block", "document"):
            units, scores = merge_units(granularity, prepared.passages, prepared.units, scores)
            prepared = replace(prepared, units=tuple(units))
        check_threshold(prepared.budget, scores, self.name)
        if scores.is_unlike and prepared.coverage is not None:
            cautious = self.scorer.coverage_threshold(prepared.coverage, cautious=True)
            prepared = replace(prepared, budget=replace(prepared.budget, threshold=cautious))
        timings = {**prepared.timings_ms, **scores.timings_ms}
        if is_unanswerable(scores, prepared.rules, self.name):
            kept = _unanswered_selection(prepared, scores)
            return self._result(prepared, scores, kept, timings, "unanswerable")
        clock = time.perf_counter()
        orderer, rules = prepared.orderer, prepared.rules
        kept = prepared.select(scores, rules if orderer is None else _in_given_order(rules))
        timings["select"] = (time.perf_counter() - clock) * 1e3
        if orderer is not None:
            clock = time.perf_counter()
            # once more: in another order other texts are joined, and the budget still holds
            order = _passage_order(orderer, prepared, scores, kept)
            kept = prepared.select(scores, rules, order)
            timings["order"] = (time.perf_counter() - clock) * 1e3
        return self._result(prepared, scores, kept, timings, "ok")

    def _orderer(self, rules: Rules) -> Orderer | None:
        """The method that `rules.order` names, if it is one."""
        if rules.order in PLAIN_ORDERS:
            return None
        if self.orderers is None:
            raise BadInput(
                f"order is {rules.order!r}, and this compressor has no methods of ordering; "
                f"give {', '.join(PLAIN_ORDERS)}, or orderers"
            )
        return self.orderers(rules.order)

    def _result(
        self,
        prepared: PreparedCompression,
        scores: Scores,
        kept: SelectedUnits,
        timings: dict[str, float],
        status: Status,
    ) -> Compressed:
        units = prepared.units
        timings["total"] = (time.perf_counter() - prepared.started) * 1e3
        return Compressed(
            text=kept.text,
            kept=tuple(
                KeptUnit(units[u].passage, *units[u].visible, scores.values[u], u)
                for u in kept.units
            ),
            passages=prepared.passages,
            units=units,
            scores=scores.values,
            passage_scores=scores.passages,
            tokens_in=prepared.tokens_in,
            tokens_out=kept.tokens,
            tokenizer=prepared.counter.name,
            method=self.name,
            status=status,
            windows=scores.windows,
            tokens_read=scores.tokens_read,
            timings_ms=timings,
            warnings=(
                *((unlike_warning(prepared.coverage),) if scores.is_unlike else ()),
                *scores.warnings,
                *kept.warnings,
            ),
            tokens_cached=scores.tokens_cached,
            answerability=scores.answerability,
            threshold=prepared.budget.threshold if status == "ok" else None,
            units_read=scores.units_read,
            calibrated=scores.calibrated,
        )

    def _whole_result(self, prepared: PreparedCompression, kept: SelectedUnits) -> Compressed:
        """The context as it came: nothing is scored and nothing is left out."""
        total_ms = (time.perf_counter() - prepared.started) * 1e3
        return Compressed(
            text=kept.text,
            kept=tuple(
                KeptUnit(u.passage, *u.visible, 1.0, i) for i, u in enumerate(prepared.units)
            ),
            passages=prepared.passages,
            units=prepared.units,
            scores=(),
            passage_scores=(),
            tokens_in=prepared.tokens_in,
            tokens_out=kept.tokens,
            tokenizer=prepared.counter.name,
            method=self.name,
            status="passthrough",
            timings_ms={**prepared.timings_ms, "total": total_ms},
        )


def count_whole_context(
    passages: Sequence[Passage], units: Sequence[Unit], rules: Rules, counter: TextTokenizer
) -> tuple[SelectedUnits, int]:
    """The context as it came, with what the rules show around it, and its tokens without that."""
    text = render_whole(passages, units, rules)
    tokens = tokens_in = counter.count(text)
    if rules.citations:
        tokens_in = counter.count(render_without_citations(passages, units, rules))
    return SelectedUnits(tuple(range(len(units))), text, tokens), tokens_in


def context_fits(budget: Budget, tokens_in: int, everything: SelectedUnits, rules: Rules) -> bool:
    """Whether the context is returned as it came, unscored.

    Args:
        tokens_in: of the context. everything: all its units, with what the rules show around them.
    """
    limit = budget.tokens(tokens_in)
    within = budget.threshold is None and (limit is None or everything.tokens <= limit)
    return within and (rules.top_n is None or not everything.units)


def _needs_promises(prepared: PreparedCompression) -> bool:
    """Whether probabilities decide, which were calibrated on whole readings."""
    return prepared.budget.threshold is not None or prepared.rules.unanswerable != "best_effort"


def _unanswered_selection(prepared: PreparedCompression, scores: Scores) -> SelectedUnits:
    """Nothing, or the context as it came whatever the budget: as the rules have it."""
    warnings = (unanswerable_warning(prepared.rules, scores),)
    if prepared.rules.unanswerable == "nothing":
        return SelectedUnits((), "", 0, warnings)
    return replace(prepared.whole, warnings=warnings)


def _in_given_order(rules: Rules) -> Rules:
    return replace(rules, order="original")


def _passage_order(
    orderer: Orderer, prepared: PreparedCompression, scores: Scores, kept: SelectedUnits
) -> list[int]:
    """All passages, those with kept text first, as a method orders that text."""
    by_passage: dict[int, list[str]] = {}
    for u in kept.units:
        unit = prepared.units[u]
        text = prepared.passages[unit.passage].text[slice(*unit.visible)]
        by_passage.setdefault(unit.passage, []).append(text)
    shown = list(by_passage)
    texts = [replace(prepared.passages[p], text=" ".join(by_passage[p]), keep=()) for p in shown]
    order = orderer.order(prepared.question, texts, [scores.passages[p] for p in shown])
    rest = (p for p in range(len(prepared.passages)) if p not in by_passage)
    return [*(shown[i] for i in order), *rest]
