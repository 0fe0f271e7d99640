"""One request: segment, score, select, render.

passages ─ segment ─► units ─ method ─► scores ─ select under the budget ─► text, spans, counts
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tamis.compressors._granularity import blocks, check_granularity, words
from tamis.compressors._method import Scorer
from tamis.compressors._order import PLAIN, Orderer, Orderers
from tamis.compressors._promise import (
    check_policy,
    check_threshold,
    holds_nothing,
    resolved,
    without_answer,
)
from tamis.compressors._select import select, whole
from tamis.compressors._tags import tagged
from tamis.compressors._types import Budget, Compressed, Kept, Rules, Scores, Selection
from tamis.probes.errors import BadInput
from tamis.probes.segment import units_of
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens

DEFAULT_RULES = Rules()


class Compressor:
    """A method with a tokenizer that counts the budget."""

    def __init__(
        self, scorer: Scorer, name: str, counter: Tokens, orderers: Orderers | None = None
    ) -> None:
        """`orderers` gives the methods of ordering that `Rules.order` may name."""
        self.scorer, self.name, self.counter = scorer, name, counter
        self.orderers = orderers

    def compress(
        self,
        question: str,
        passages: Sequence[Passage | str | Mapping[str, Any]],
        budget: Budget,
        rules: Rules = DEFAULT_RULES,
        *,
        language: str = "en",
        counter: Tokens | None = None,
    ) -> Compressed:
        """Keeps the sentences that answer the question, verbatim, within the budget.

        A context that fits is returned whole, and no model is asked; so is one that a budget in
        tokens does not limit.

        Args:
            question: what is asked.
            passages: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or
                `Passage`s.
            budget: how much may be kept.
            rules: how units are chosen and shown.
            language: of the passages, for finding sentences.
            counter: the tokenizer to count with, instead of the compressor's own.

        Raises:
            BadInput: an empty question, a malformed passage or rule.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        if not isinstance(question, str) or not question.strip():
            raise BadInput("the question is empty; compression keeps what answers a question")
        if isinstance(passages, str | Passage | Mapping):
            raise BadInput(f"passages is one {type(passages).__name__}; give a list of passages")
        check_policy(rules)
        check_granularity(rules.granularity, self.scorer, self.name)
        orderer = self._orderer(rules)
        budget = resolved(budget, self.scorer, self.name)
        clock = time.perf_counter()
        given = tuple(passage_of(p, i) for i, p in enumerate(passages))
        if rules.keep_tags:
            given = tuple(tagged(p, i) for i, p in enumerate(given))
        units = units_of(given, language)
        if rules.granularity == "token":
            units = words(given, units)
        counter = counter or self.counter
        tokens_in = counter.count(whole(given, units, rules))
        limit = budget.tokens(tokens_in)
        segmented = time.perf_counter()
        timings = {"segment": (segmented - clock) * 1e3}
        if not units or (limit is not None and tokens_in <= limit and rules.top_n is None):
            return self._whole(given, units, tokens_in, rules, counter, timings)
        scores = self.scorer.scores(question, given, units)
        if rules.granularity == "block":
            units, scores = blocks(given, units, scores)
        check_threshold(budget, scores, self.name)
        scored = time.perf_counter()
        if holds_nothing(scores, rules, self.name):
            timings |= {**scores.timings_ms, "total": (scored - clock) * 1e3}
            return self._unanswered(given, units, scores, tokens_in, rules, counter, timings)
        chosen = partial(select, given, units, scores.values, scores.passages, budget)
        plain = rules if orderer is None else replace(rules, order="original")
        kept = chosen(plain, counter)
        timings |= scores.timings_ms
        timings["select"] = (time.perf_counter() - scored) * 1e3
        if orderer is not None:
            selected = time.perf_counter()
            # chosen once more: the joined text has other joints, and the budget holds for it
            order = _arrangement(orderer, question, given, units, scores, kept)
            kept = chosen(rules, counter, order)
            timings["order"] = (time.perf_counter() - selected) * 1e3
        timings["total"] = (time.perf_counter() - clock) * 1e3
        result = self._result(given, units, scores, kept, tokens_in, counter, timings)
        return replace(result, threshold=budget.threshold)

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
        self,
        passages: tuple[Passage, ...],
        units: Sequence[Unit],
        scores: Scores,
        kept: Selection,
        tokens_in: int,
        counter: Tokens,
        timings: dict[str, float],
    ) -> Compressed:
        return Compressed(
            text=kept.text,
            kept=tuple(
                Kept(units[u].passage, *units[u].visible, scores.values[u], u) for u in kept.units
            ),
            passages=passages,
            units=tuple(units),
            scores=scores.values,
            passage_scores=scores.passages,
            tokens_in=tokens_in,
            tokens_out=kept.tokens,
            tokenizer=counter.name,
            method=self.name,
            status="ok",
            windows=scores.windows,
            tokens_read=scores.tokens_read,
            timings_ms=timings,
            warnings=kept.warnings,
            tokens_cached=scores.tokens_cached,
            answerability=scores.answerability,
        )

    def _unanswered(
        self,
        passages: tuple[Passage, ...],
        units: Sequence[Unit],
        scores: Scores,
        tokens_in: int,
        rules: Rules,
        counter: Tokens,
        timings: dict[str, float],
    ) -> Compressed:
        """Nothing, or the context as it came, whatever the budget: as the rules have it."""
        if rules.unanswerable == "nothing":
            kept = Selection((), "", 0, (without_answer(rules, scores),))
        else:
            every = tuple(range(len(units)))
            text = whole(passages, units, rules)
            kept = Selection(every, text, tokens_in, (without_answer(rules, scores),))
        result = self._result(passages, units, scores, kept, tokens_in, counter, timings)
        return replace(result, status="unanswerable")

    def _whole(
        self,
        passages: tuple[Passage, ...],
        units: Sequence[Unit],
        tokens_in: int,
        rules: Rules,
        counter: Tokens,
        timings: dict[str, float],
    ) -> Compressed:
        """The context as it is: it fits, so nothing is scored and nothing is left out."""
        timings["total"] = timings["segment"]
        return Compressed(
            text=whole(passages, units, rules),
            kept=tuple(Kept(u.passage, *u.visible, 1.0, i) for i, u in enumerate(units)),
            passages=passages,
            units=tuple(units),
            scores=(),
            passage_scores=(),
            tokens_in=tokens_in,
            tokens_out=tokens_in,
            tokenizer=counter.name,
            method=self.name,
            status="passthrough",
            timings_ms=timings,
        )


def _arrangement(
    orderer: Orderer,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    scores: Scores,
    kept: Selection,
) -> list[int]:
    """All passages, those with kept text first, as a method orders that text."""
    by_passage: dict[int, list[str]] = {}
    for u in kept.units:
        unit = units[u]
        text = passages[unit.passage].text[slice(*unit.visible)]
        by_passage.setdefault(unit.passage, []).append(text)
    shown = list(by_passage)
    texts = [replace(passages[p], text=" ".join(by_passage[p]), keep=()) for p in shown]
    order = orderer.order(question, texts, [scores.passages[p] for p in shown])
    return [*(shown[i] for i in order), *(p for p in range(len(passages)) if p not in by_passage)]


_FIELDS = ("text", "id", "title", "metadata", "keep", "min_tokens")


def passage_of(given: Passage | str | Mapping[str, Any], index: int) -> Passage:
    """A caller's document as a passage; its text is taken as it is.

    Raises:
        BadInput: it has no text, or fields that are not known, with its place in the list.
    """
    if isinstance(given, Passage):
        return given
    if isinstance(given, str):
        return Passage(given)
    if not isinstance(given, Mapping) or not isinstance(given.get("text"), str):
        raise BadInput(
            f"passage {index} is {type(given).__name__} without a 'text' string; "
            "give a string, or an object with 'text' and maybe 'id', 'title', 'metadata'"
        )
    if unknown := sorted(set(map(str, given)) - set(_FIELDS)):
        raise BadInput(f"passage {index} has unknown fields {unknown}; known are {list(_FIELDS)}")
    for name in ("id", "title"):
        if given.get(name) is not None and not isinstance(given[name], str):
            raise BadInput(
                f"passage {index}: {name!r} is {given[name]!r}; give a string or leave it out"
            )
    if not isinstance(given.get("metadata") or {}, Mapping):
        raise BadInput(f"passage {index}: 'metadata' is {given['metadata']!r}; give an object")
    metadata, (keep, least) = given.get("metadata") or {}, _promised(given, index)
    return Passage(given["text"], given.get("id"), given.get("title"), metadata, keep, least)


def _promised(given: Mapping[str, Any], index: int) -> tuple[tuple[tuple[int, int], ...], int]:
    """What must be kept of a document: spans, and a number of tokens."""
    try:
        spans = tuple((int(a), int(b)) for a, b in given.get("keep") or ())
        return spans, int(given.get("min_tokens") or 0)
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"passage {index}: 'keep' or 'min_tokens' cannot be read ({error}); "
            "give pairs of whole numbers [start, stop], and a whole number"
        ) from error
