"""One request: segment, score, select, render.

passages ─ segment ─► units ─ method ─► scores ─ select under the budget ─► text, spans, counts
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tamis.compressors.documents import check_keep, check_list, to_passage
from tamis.compressors.features.coverage import (
    check_threshold,
    check_unanswerable,
    is_unanswerable,
    resolve_coverage,
    unanswerable_warning,
)
from tamis.compressors.keep_tags import parse_keep_tags
from tamis.compressors.method import Orderer, Scorer, check_scores
from tamis.compressors.question import COMPRESSION, check_question
from tamis.compressors.selection.granularity import check_granularity, merge_blocks, split_words
from tamis.compressors.selection.order import PLAIN, Orderers
from tamis.compressors.selection.select import given, select, whole
from tamis.compressors.types import Budget, Compressed, Kept, Rules, Scores, Selection, Status
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import AUTO, spoken
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens

DEFAULT_RULES = Rules()


class Compressor:
    """A method with a tokenizer that counts the budget."""

    def __init__(
        self, scorer: Scorer, name: str, counter: Tokens, orderers: Orderers | None = None
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
        counter: Tokens | None = None,
    ) -> Compressed:
        """Keeps the sentences that answer the question, verbatim, within the budget.

        A context that fits is returned whole, and no model is asked; so is one that a budget in
        tokens does not limit. A threshold or a coverage asks the model all the same.

        Args:
            question: what is asked.
            passages: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or
                `Passage`s.
            budget: how much may be kept.
            rules: how units are chosen and shown.
            language: of the passages, for finding sentences; `auto` looks at them.
            counter: the tokenizer to count with, instead of the compressor's own.

        Raises:
            BadInput: an empty question, a malformed passage or rule.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        check_question(question, COMPRESSION)
        check_list(passages, "passages")
        check_unanswerable(rules)
        check_granularity(rules.granularity, self.scorer, self.name)
        orderer = self._orderer(rules)
        budget = resolve_coverage(budget, self.scorer, self.name)
        counter = counter or self.counter
        clock = time.perf_counter()
        context = tuple(to_passage(p, i) for i, p in enumerate(passages))
        check_keep(context)
        if rules.keep_tags:
            context = tuple(parse_keep_tags(p, i) for i, p in enumerate(context))
        units = units_of(context, spoken(language, question, [p.text for p in context]))
        if rules.granularity == "token":
            units = split_words(context, units)
        everything, tokens_in = whole_context(context, units, rules, counter)
        case = _Case(question, context, units, budget, rules, counter, tokens_in, everything, clock)
        case.timings["segment"] = (time.perf_counter() - clock) * 1e3
        limit = budget.tokens(tokens_in)
        fits = budget.threshold is None and (limit is None or everything.tokens <= limit)
        if not units:  # white space at most
            return self._whole(case, everything if fits else Selection((), "", 0))
        if fits and rules.top_n is None:
            return self._whole(case, everything)
        return self._scored(case, orderer)

    def _scored(self, case: _Case, orderer: Orderer | None) -> Compressed:
        """What is kept by the method's scores, or what the rules say where there is no answer."""
        scores = self.scorer.scores(case.question, case.passages, case.units)
        if case.rules.granularity == "block":
            case.units, scores = merge_blocks(case.passages, case.units, scores)
        check_threshold(case.budget, scores, self.name)
        case.timings |= scores.timings_ms
        if is_unanswerable(scores, case.rules, self.name):
            return self._unanswered(case, scores)
        clock = time.perf_counter()
        kept = case.selected(scores, case.rules if orderer is None else _unordered(case.rules))
        case.timings["select"] = (time.perf_counter() - clock) * 1e3
        if orderer is not None:
            clock = time.perf_counter()
            # chosen once more: the joined text has other joints, and the budget holds for it
            order = _arrangement(orderer, case, scores, kept)
            kept = case.selected(scores, case.rules, order)
            case.timings["order"] = (time.perf_counter() - clock) * 1e3
        return self._result(case, scores, kept)

    def _orderer(self, rules: Rules) -> Orderer | None:
        """The method that `rules.order` names, if it is one."""
        if rules.order in PLAIN:
            return None
        if self.orderers is None:
            raise BadInput(
                f"order is {rules.order!r}, and this compressor has no methods of ordering; "
                f"give {', '.join(PLAIN)}, or orderers"
            )
        return self.orderers(rules.order)

    def _result(
        self, case: _Case, scores: Scores, kept: Selection, status: Status = "ok"
    ) -> Compressed:
        units = case.units
        case.timings["total"] = (time.perf_counter() - case.clock) * 1e3
        return Compressed(
            text=kept.text,
            kept=tuple(
                Kept(units[u].passage, *units[u].visible, scores.values[u], u) for u in kept.units
            ),
            passages=case.passages,
            units=tuple(units),
            scores=scores.values,
            passage_scores=scores.passages,
            tokens_in=case.tokens_in,
            tokens_out=kept.tokens,
            tokenizer=case.counter.name,
            method=self.name,
            status=status,
            windows=scores.windows,
            tokens_read=scores.tokens_read,
            timings_ms=case.timings,
            warnings=kept.warnings,
            tokens_cached=scores.tokens_cached,
            answerability=scores.answerability,
            threshold=case.budget.threshold if status == "ok" else None,
        )

    def _unanswered(self, case: _Case, scores: Scores) -> Compressed:
        """Nothing, or the context as it came, whatever the budget: as the rules have it."""
        why = (unanswerable_warning(case.rules, scores),)
        if case.rules.unanswerable == "nothing":
            kept = Selection((), "", 0, why)
        else:
            kept = replace(case.everything, warnings=why)
        return self._result(case, scores, kept, "unanswerable")

    def _whole(self, case: _Case, everything: Selection) -> Compressed:
        """The context as it is: it fits, so nothing is scored and nothing is left out."""
        case.timings["total"] = (time.perf_counter() - case.clock) * 1e3
        return Compressed(
            text=everything.text,
            kept=tuple(Kept(u.passage, *u.visible, 1.0, i) for i, u in enumerate(case.units)),
            passages=case.passages,
            units=tuple(case.units),
            scores=(),
            passage_scores=(),
            tokens_in=case.tokens_in,
            tokens_out=everything.tokens,
            tokenizer=case.counter.name,
            method=self.name,
            status="passthrough",
            timings_ms=case.timings,
        )


@dataclass(slots=True)
class _Case:
    """One request on its way.

    `everything` is the context as it came, with what the rules show around it, and `tokens_in` its
    tokens without that; `clock` is when the request began, `timings` in ms fill as it goes.
    """

    question: str
    passages: tuple[Passage, ...]
    units: list[Unit]
    budget: Budget
    rules: Rules
    counter: Tokens
    tokens_in: int
    everything: Selection
    clock: float
    timings: dict[str, float] = field(default_factory=dict)

    def selected(
        self, scores: Scores, rules: Rules, order: Sequence[int] | None = None
    ) -> Selection:
        """The units that stay."""
        seen = scores.values, scores.passages
        return select(self.passages, self.units, *seen, self.budget, rules, self.counter, order)


def whole_context(
    passages: Sequence[Passage], units: Sequence[Unit], rules: Rules, counter: Tokens
) -> tuple[Selection, int]:
    """The context as it came, with what the rules show around it, and its tokens without that."""
    text = whole(passages, units, rules)
    tokens = counter.count(text)
    tokens_in = counter.count(given(passages, units, rules)) if rules.citations else tokens
    return Selection(tuple(range(len(units))), text, tokens), tokens_in


def _unordered(rules: Rules) -> Rules:
    return replace(rules, order="original")


def _arrangement(orderer: Orderer, case: _Case, scores: Scores, kept: Selection) -> list[int]:
    """All passages, those with kept text first, as a method orders that text."""
    by_passage: dict[int, list[str]] = {}
    for u in kept.units:
        unit = case.units[u]
        text = case.passages[unit.passage].text[slice(*unit.visible)]
        by_passage.setdefault(unit.passage, []).append(text)
    shown = list(by_passage)
    texts = [replace(case.passages[p], text=" ".join(by_passage[p]), keep=()) for p in shown]
    order = orderer.order(case.question, texts, [scores.passages[p] for p in shown])
    rest = (p for p in range(len(case.passages)) if p not in by_passage)
    return [*(shown[i] for i in order), *rest]
