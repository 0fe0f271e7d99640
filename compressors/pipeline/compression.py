"""One compression: a request, what is known of it before a model runs, and its result.

Request ─ segment, count ─► Prepared ─ does it fit? ─ yes ─► whole, no model is used
                                           └─ no ─► Scores ─ select under the budget ─► Compressed

Whoever calls has a say in the middle: the scorer may be one that stops at a deadline, and one
reading serves several selections.
"""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tamis.compressors.method import (
    Orderer,
    OrdererFactory,
    Scorer,
    check_scores,
    reading_everything,
)
from tamis.compressors.registry import method_info, method_names
from tamis.compressors.rules import DEFAULT_RULES, PLAIN_ORDERS, Budget, Rules, Unanswerable
from tamis.compressors.selection.rendering import Renderer, render_whole, render_without_citations
from tamis.compressors.selection.select import merge_units, select, split_words
from tamis.compressors.types import (
    Compressed,
    KeptUnit,
    Scores,
    SelectedUnits,
    Status,
    check_result_type,
    to_probability,
)
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.inputs import (
    COMPRESSION_REASON,
    attach_closing_tags,
    check_keep,
    check_list,
    check_question,
    header_warnings,
    parse_keep_tags,
    to_passage,
    with_headers,
)
from tamis.text.language import AUTO, resolve_language
from tamis.text.readers.code import cut_unit
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import Level, Part
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import ROOM_SHARE, split_long_units, units_of

ADAPTIVE_THRESHOLD = 0.5
MUCH_KEPT, NEARLY_ALL = 0.5, 0.95
"""The shares of the context above which a coverage says how much it keeps, and that it is of little
use."""
_MERGED_TOKENS = 3
"""By which a text may have fewer tokens than a part of it, whose end merges with what follows."""
_MAY_FAIL = re.compile(r"ERROR|FATAL|CRITICAL|SEVERE|FAIL|panic|[Ee]rror|[Ee]xception|\blevel\b")
_NO_LOGS = frozenset(("text", "json", "notebook", "table", "html", "diff", "grep", "listing"))
"""Formats that documents have in which a word of failures is no failure."""
_SAME = "windows tokens_read tokens_cached answerability verdict units_read calibrated".split()


@dataclass(frozen=True, slots=True)
class AdaptiveLimits:
    """A budget set by the scores: the units that probably answer, within two bounds.

    Attributes:
        min_ratio: the smallest number of input tokens for each output token.
        max_ratio: the largest.
    """

    min_ratio: float = 1.5
    max_ratio: float = 10.0

    def __post_init__(self) -> None:
        if not 1 <= self.min_ratio <= self.max_ratio:
            raise BadInput(
                f"adaptive has min_ratio {self.min_ratio:g} and max_ratio {self.max_ratio:g}; "
                "give 1 <= min_ratio <= max_ratio"
            )


@dataclass(frozen=True, slots=True)
class Request:
    """What to compress, and how.

    Attributes:
        question: what is asked, with its instruction and history, as the model reads it.
        passages: texts, mappings with `text` and maybe `id`, `title`, `metadata`, or `Passage`s.
        budget: how much may be kept.
        rules: how units are chosen and shown.
        language: of the passages, for finding sentences; `auto` detects it.
        counter: the tokenizer to count with, instead of the compressor's own.
        always_score: whether units are scored although everything fits, as they are where it does
            not.
    """

    question: str
    passages: Sequence[Passage | str | Mapping[str, Any]]
    budget: Budget | AdaptiveLimits
    rules: Rules = DEFAULT_RULES
    language: str = AUTO
    counter: TextTokenizer | None = None
    always_score: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request that was checked, segmented and counted; no model has run.

    Attributes:
        passages: the context, with what `<keep>` tags say.
        budget: with a coverage as the threshold that the method's calibration gives it, and with
            the threshold that an adaptive budget begins with.
        whole: the context as it came, with what the rules show around it.
        tokens_in: tokens of the context without that.
        fits: whether it is returned whole.
        orderer: the method that `rules.order` names, if it is one.
        started: `time.perf_counter()` when the request began.
        timings_ms: of the stages so far.
    """

    request: Request
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    budget: Budget
    counter: TextTokenizer
    whole: SelectedUnits
    tokens_in: int
    fits: bool
    orderer: Orderer | None
    started: float
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def rules(self) -> Rules:
        """How units are chosen and shown."""
        return self.request.rules

    @property
    def coverage(self) -> float | None:
        """The coverage that was asked for, which `budget` has as a threshold."""
        asked = self.request.budget
        return asked.coverage if isinstance(asked, Budget) else None

    @property
    def unanswerable(self) -> Unanswerable:
        """What is returned of a context without an answer: by itself a verdict empties nothing."""
        asked = self.rules.unanswerable
        return "best_effort" if asked == "auto" else asked

    @property
    def needs_scores(self) -> bool:
        """Whether a method must score the units: they do not fit, or scores are wanted."""
        return (self.request.always_score or not self.fits) and bool(self.units)

    def with_budget(self, budget: Budget) -> Prepared:
        """The same request with another budget in tokens or another threshold."""
        fits = context_fits(budget, self.tokens_in, self.whole, self.rules)
        return replace(self, request=replace(self.request, budget=budget), budget=budget, fits=fits)

    def with_question(self, question: str) -> Prepared:
        """The same passages and rules for another question, which begins now."""
        request = replace(self.request, question=question)
        return replace(self, request=request, started=time.perf_counter())


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
        budget: Budget | AdaptiveLimits,
        rules: Rules = DEFAULT_RULES,
        *,
        language: str = AUTO,
        counter: TextTokenizer | None = None,
    ) -> Compressed:
        """Keeps the sentences that answer the question, verbatim, within the budget.

        A context that fits is returned whole, and no model is used; so is one that a budget in
        tokens does not limit. A threshold or a coverage needs the model all the same. The
        arguments are those of `Request`.

        Raises:
            BadInput: an empty question, a malformed passage, or a threshold where the method gives
                no probabilities.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        request = Request(question, passages, budget, rules, language, counter)
        prepared = self.prepare(request)
        check_room(prepared)
        return self.select(prepared, self.score(prepared) if prepared.needs_scores else None)

    def prepare(self, request: Request) -> Prepared:
        """Checks and segments a request and counts its context.

        Raises:
            BadInput: an empty question, or a malformed passage.
        """
        question, rules, budget = request.question, request.rules, request.budget
        check_question(question, COMPRESSION_REASON)
        check_list(request.passages, "passages")
        check_granularity(rules.granularity, self.scorer, self.name)
        orderer = self._orderer(rules)
        if isinstance(budget, AdaptiveLimits):
            budget = Budget(threshold=ADAPTIVE_THRESHOLD)
        budget = resolve_coverage(budget, self.scorer, self.name)
        counter = request.counter or self.counter
        started = time.perf_counter()
        context = tuple(to_passage(p, i) for i, p in enumerate(request.passages))
        context = with_headers(context, rules.read_metadata)
        check_keep(context)
        if rules.keep_tags:
            context = tuple(parse_keep_tags(p, i) for i, p in enumerate(context))
        language = resolve_language(request.language, question, [p.text for p in context])
        units = units_of(context, language)
        if rules.keep_tags:
            units = attach_closing_tags(context, units)
        if rules.granularity == "token":
            units = split_words(context, units)
        text = render_whole(context, units, rules)
        whole = SelectedUnits(tuple(range(len(units))), text, counter.count(text))
        tokens_in = whole.tokens
        if rules.citations:  # which are shown around the context, and are no part of it
            tokens_in = counter.count(render_without_citations(context, units, rules))
        fits = context_fits(budget, tokens_in, whole, rules)
        if rules.granularity == "sentence" and not fits:
            limit = budget.tokens(tokens_in) or 2 * tokens_in
            units = split_long_units(context, units, counter, limit, language)
            units = list(cut_failures(context, units, counter, limit))
        return Prepared(
            request,
            context,
            tuple(units),
            budget,
            counter,
            whole,
            tokens_in,
            fits,
            orderer,
            started,
            {"segment": (time.perf_counter() - started) * 1e3},
        )

    def score(self, prepared: Prepared) -> Scores:
        """The method's scores of the units. Whole passages are read where probabilities decide,
        which were calibrated on whole readings; elsewhere scores are those that decide."""
        request = prepared.request
        by_probability = (
            prepared.budget.threshold is not None or prepared.unanswerable != "best_effort"
        )
        scorer = reading_everything(self.scorer) if by_probability else self.scorer
        found = scorer.scores(request.question, prepared.passages, prepared.units)
        return check_result_type(found, Scores, self.name)

    def select(self, prepared: Prepared, scores: Scores | None) -> Compressed:
        """The units that stay under the budget, by their scores; no model of scoring runs.

        Args:
            scores: of the units; None where the request needs none.

        Raises:
            BadInput: a threshold, and the method gives no probabilities.
            BudgetTooSmall: not even the shortest sentence fits.
        """
        everything = tuple(range(len(prepared.units)))
        if prepared.fits:
            shown = scores if prepared.request.always_score else None
            kept = replace(prepared.whole, units=everything)
            return self._result(prepared, shown, kept, "passthrough")
        if not prepared.units or scores is None:  # white space, and more of it than the budget
            return self._result(prepared, None, SelectedUnits(everything, "", 0), "passthrough")
        if (granularity := prepared.rules.granularity) in ("block", "document"):
            units, scores = merge_units(granularity, prepared.passages, prepared.units, scores)
            prepared = replace(prepared, units=tuple(units))
        check_threshold(prepared.budget, scores, self.name)
        check_can_tell(scores, prepared.rules, self.name)
        if _is_unanswerable(scores, prepared):
            kept = _unanswered_selection(prepared, scores)
            return self._result(prepared, scores, kept, "unanswerable")
        if isinstance(prepared.request.budget, AdaptiveLimits):
            return self._select_adaptively(prepared, scores, prepared.request.budget)
        return self._select(prepared, scores)

    def _select(self, prepared: Prepared, scores: Scores) -> Compressed:
        if prepared.coverage is not None:
            prepared = replace(prepared, budget=self._covering_budget(prepared, scores))
        clock = time.perf_counter()
        orderer, rules = prepared.orderer, prepared.rules
        plain = rules if orderer is None else replace(rules, order="original")
        kept = _select_units(prepared, scores, plain)
        timings = {"select": (time.perf_counter() - clock) * 1e3}
        if orderer is not None:
            clock = time.perf_counter()
            # once more: in another order other texts are joined, and the budget still holds
            order = _passage_order(orderer, prepared, scores, kept)
            kept = _select_units(prepared, scores, rules, order)
            timings["order"] = (time.perf_counter() - clock) * 1e3
        return self._result(prepared, scores, kept, "ok", timings)

    def _covering_budget(self, prepared: Prepared, scores: Scores) -> Budget:
        """The budget of a coverage for these scores: cautious where they are unlike those of the
        fit, and with room for the best unit whatever it is worth."""
        assert prepared.coverage is not None
        threshold = prepared.budget.threshold
        if scores.is_unlike:
            threshold = self.scorer.coverage_threshold(prepared.coverage, cautious=True)
        pairs = list(zip(prepared.units, scores.values, strict=True))
        says = [v for unit, v in pairs if unit.kind not in ("heading", "table_header")]
        best = max(says or scores.values)
        return replace(prepared.budget, threshold=min(best, threshold or 0.0))

    def _select_adaptively(
        self, prepared: Prepared, scores: Scores, budget: AdaptiveLimits
    ) -> Compressed:
        """The units that probably answer; more of the best, or fewer, where a bound asks for it."""
        free = self._select(prepared, scores)
        most = math.floor(free.tokens_in / budget.min_ratio)
        least = math.ceil(free.tokens_in / budget.max_ratio)
        found = free
        if free.tokens_out < least:
            # the fewest of the best units that have so many tokens; all, if those have fewer
            values = sorted(set(scores.values), reverse=True)
            low, high = 0, len(values) - 1
            while low < high:
                middle = (low + high) // 2
                by_value = prepared.with_budget(Budget(threshold=values[middle]))
                if self._select(by_value, scores).tokens_out >= least:
                    high = middle
                else:
                    low = middle + 1
            found = self._select(prepared.with_budget(Budget(threshold=values[low])), scores)
        if found.tokens_out <= most:
            return found
        return self._select(prepared.with_budget(Budget(max_tokens=max(1, most))), scores)

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
        prepared: Prepared,
        scores: Scores | None,
        kept: SelectedUnits,
        status: Status,
        own_ms: Mapping[str, float] | None = None,
    ) -> Compressed:
        """A unit that was not scored counts as 1; a context as it came has no warnings."""
        units, values = prepared.units, scores.values if scores else ()
        timings = {**prepared.timings_ms, **(scores.timings_ms if scores else {}), **(own_ms or {})}
        timings["total"] = (time.perf_counter() - prepared.started) * 1e3
        # of the scores as they are; None where nothing was read
        read = {name: getattr(scores, name) for name in _SAME} if scores else {}
        reason = "nothing was read, for the whole context fits"
        if scores:
            reason = scores.reason or f"{self.name} cannot tell"
        found = Compressed(
            text=kept.text,
            kept=tuple(
                KeptUnit(units[u].passage, *units[u].visible, values[u] if values else 1.0, u)
                for u in kept.units
            ),
            passages=prepared.passages,
            units=units,
            scores=values,
            passage_scores=scores.passages if scores else (),
            tokens_in=prepared.tokens_in,
            tokens_out=kept.tokens,
            tokenizer=prepared.counter.name,
            method=self.name,
            status=status,
            timings_ms=timings,
            reason=reason,
            **read,
        )
        if scores is None or status == "passthrough":
            return found
        warnings = (
            *((unlike_warning(prepared.coverage),) if scores.is_unlike else ()),
            *scores.warnings,
            *kept.warnings,
            *_budget_warnings(prepared, scores, kept, status, reason),
            *header_warnings(prepared.passages, prepared.request.rules.read_metadata),
            *_failure_warnings(found),
        )
        threshold = prepared.budget.threshold if status == "ok" else None
        return replace(found, warnings=warnings, threshold=threshold)


def context_fits(budget: Budget, tokens_in: int, everything: SelectedUnits, rules: Rules) -> bool:
    """Whether the context is returned as it came, unscored.

    Args:
        tokens_in: of the context.
        everything: all its units, with what the rules show around them.
    """
    limit = budget.tokens(tokens_in)
    within = budget.threshold is None and (limit is None or everything.tokens <= limit)
    return within and (rules.top_n is None or not everything.units)


def _select_units(
    prepared: Prepared, scores: Scores, rules: Rules, order: Sequence[int] | None = None
) -> SelectedUnits:
    return select(
        prepared.passages,
        prepared.units,
        scores.values,
        scores.passages,
        prepared.budget,
        rules,
        prepared.counter,
        order,
        scores.calibrated,
    )


def _unanswered_selection(prepared: Prepared, scores: Scores) -> SelectedUnits:
    """Nothing, or the context as it came whatever the budget: as the rules have it."""
    warnings = (_unanswerable_warning(prepared, scores),)
    if prepared.unanswerable == "nothing":
        return SelectedUnits((), "", 0, warnings)
    return replace(prepared.whole, warnings=warnings)


def _passage_order(
    orderer: Orderer, prepared: Prepared, scores: Scores, kept: SelectedUnits
) -> list[int]:
    """All passages, those with kept text first, as a method orders that text."""
    by_passage: dict[int, list[str]] = {}
    for u in kept.units:
        unit = prepared.units[u]
        text = prepared.passages[unit.passage].text[slice(*unit.visible)]
        by_passage.setdefault(unit.passage, []).append(text)
    shown = list(by_passage)
    own = prepared.passages
    texts = [replace(own[p], text=" ".join(by_passage[p]), keep=(), pieces=()) for p in shown]
    order = orderer.order(prepared.request.question, texts, [scores.passages[p] for p in shown])
    rest = (p for p in range(len(prepared.passages)) if p not in by_passage)
    return [*(shown[i] for i in order), *rest]


def check_granularity(granularity: str, scorer: Scorer, method: str) -> None:
    """Refuses a granularity whose units the method cannot score.

    Raises:
        BadInput: words, and the method scores sentences.
    """
    if granularity == "token" and not scorer.info.reads_words:
        readers = [name for name in method_names() if method_info(name).reads_words]
        raise BadInput(
            f"{method} scores sentences, not words; take granularity sentence, block or document, "
            f"or method {' or '.join(readers)}"
        )


def resolve_coverage(budget: Budget, scorer: Scorer, name: str) -> Budget:
    """The budget with a coverage turned into a threshold by the method's calibration.

    A budget without a coverage stays as it is.

    Raises:
        BadInput: the method promises no coverage.
    """
    if budget.coverage is None:
        return budget
    threshold = scorer.coverage_threshold(budget.coverage)
    if threshold is None:
        raise no_coverage_error(name)
    return replace(budget, coverage=None, threshold=threshold)


def unlike_warning(coverage: float | None) -> str:
    """The warning of a request that is unlike those that the probabilities were fitted on."""
    action = (
        "" if coverage is None else f", and coverage {coverage:g} is kept as on the hardest one"
    )
    return (
        "these passages are unlike those that scores were fitted on, so probabilities are rough: "
        f"compare with other methods, or calibrate on your own (tamis lab probe calibrate){action}"
    )


def no_coverage_error(name: str) -> BadInput:
    """The error for a coverage where the method has no calibration for one."""
    return BadInput(
        f"{name} has no calibrated coverage here; give max_tokens or ratio, use "
        "question_rows with its probe, or calibrate your own: tamis lab probe calibrate"
    )


def check_room(prepared: Prepared) -> None:
    """Refuses a budget in which no unit has room by itself, before a model reads for it.

    Where scores have a part in what is refused, that is left to `Compressor.select`.

    Raises:
        BudgetTooSmall: as the selection would, whatever the scores.
    """
    budget, rules, request = prepared.budget, prepared.rules, prepared.request
    limit = None if budget.threshold is not None else budget.tokens(prepared.tokens_in)
    is_free = rules.top_n is None and rules.granularity not in ("block", "document")
    is_free = is_free and prepared.unanswerable == "best_effort" and not request.always_score
    if limit is None or not is_free or not prepared.needs_scores:
        return
    renderer = Renderer(prepared.passages, prepared.units, rules)
    alone = (prepared.counter.count(renderer.text([u])) for u in range(len(prepared.units)))
    if all(tokens > limit + _MERGED_TOKENS for tokens in alone):
        unread = Scores((0.0,) * len(prepared.units), (0.0,) * len(prepared.passages))
        _select_units(prepared, unread, replace(rules, order="original"))


def check_threshold(budget: Budget, scores: Scores, name: str) -> None:
    """Refuses a threshold on scores that are not probabilities.

    Raises:
        BadInput: a threshold was given for such scores.
    """
    if budget.threshold is not None and not scores.calibrated:
        raise BadInput(
            f"{name} gives no probabilities here, so a threshold means nothing; "
            "give max_tokens or ratio, or a method with a calibrated probe"
        )


def check_can_tell(scores: Scores, rules: Rules, name: str) -> None:
    """Refuses a policy for contexts without an answer where the method cannot tell.

    Raises:
        BadInput: it cannot.
    """
    if scores.answerability is None and rules.unanswerable not in ("auto", "best_effort"):
        raise BadInput(
            f"{name} cannot tell whether the context holds an answer; leave unanswerable at "
            "auto, or use question_rows with its probe"
        )


def _is_unanswerable(scores: Scores, prepared: Prepared) -> bool:
    """Whether the context counts as holding no answer and `rules.unanswerable` acts on it.

    Its units' probabilities have no part in it: they are those of contexts that hold an answer, and
    some unit is always the best.
    """
    if prepared.unanswerable == "best_effort":
        return False
    if (floor := prepared.rules.answerable_floor) is None:
        return scores.verdict == "unanswerable"
    return scores.answerability is not None and scores.answerability < floor


def _unanswerable_warning(prepared: Prepared, scores: Scores) -> str:
    """The warning of a result whose context seems to hold no answer."""
    given, is_empty = prepared.rules.answerable_floor, prepared.unanswerable == "nothing"
    floor = scores.floor if given is None else given
    action = "nothing was kept" if is_empty else "it was passed through whole"
    return (
        f"answerability is {scores.answerability:.2f}, below {floor:.2g}: the context seems to "
        f"hold no answer, so {action} (unanswerable best_effort keeps the best there is)"
    )


def _budget_warnings(
    prepared: Prepared, scores: Scores, kept: SelectedUnits, status: Status, reason: str
) -> Iterator[str]:
    """The warnings of a coverage without a limit that keeps more than half of the context, of a
    policy for contexts without an answer that no floor can set off, and of a floor without one.

    Args:
        reason: why there is no answerability, where there is none.
    """
    share, rules = kept.tokens / max(1, prepared.tokens_in), prepared.rules
    is_limited = prepared.coverage is None or prepared.budget.tokens(prepared.tokens_in) is not None
    if share > MUCH_KEPT and status == "ok" and not is_limited:
        much, why = f"{share:.0%}", "no less is that sure to hold all the evidence; add"
        if share >= NEARLY_ALL:
            much, why = f"{share:.1%}", "that is hardly shorter, as often with short texts; give"
        yield (
            f"coverage {prepared.coverage:g} keeps {much} of the context: {why} max_tokens or "
            "ratio for a limit"
        )
    if rules.unanswerable == "auto":
        floor = rules.answerable_floor
        if floor is None and prepared.coverage is not None and scores.verdict == "unanswerable":
            floor = scores.floor
        yield from _floor_warnings(scores, floor)
    if rules.answerable_floor is not None and scores.answerability is None:
        yield f"answerable_floor {rules.answerable_floor:g} does nothing: {reason}"
    has_policy = rules.unanswerable not in ("auto", "best_effort")
    if has_policy and rules.answerable_floor is None and scores.floor is None:
        yield (
            f"unanswerable {rules.unanswerable} does nothing: no floor was calibrated for this "
            "probe; give answerable_floor"
        )


def cut_failures(
    passages: Sequence[Passage], units: Sequence[Unit], counter: TextTokenizer, budget: int
) -> Iterator[Unit]:
    """Cuts lines that report a failure at their blanks, where they have more tokens than a budget.

    Nothing of such a line could be kept otherwise. No other unit is cut.
    """
    for unit in units:
        text, (first, last) = passages[unit.passage].text, unit.visible
        line, starts = text[first:last], [first]
        tokens = counter.count(line) if 4 * len(line) > budget else 0
        if tokens > budget and any(
            part.level == Level.MESSAGE for part in parse_tool_output(line).parts
        ):
            chars = max(1, int(ROOM_SHARE * budget) * len(line) // tokens)
            while last - starts[-1] > chars:
                at = text.rfind(" ", starts[-1] + 1, starts[-1] + chars) + 1
                starts.append(at or starts[-1] + chars)
        yield from cut_unit(text, unit, starts)


def _failure_warnings(found: Compressed) -> Iterator[str]:
    """The warnings of documents that are read as logs: no failure was kept, or a part of one."""
    edges: dict[int, list[int]] = {}  # an odd number before what is kept
    for unit in sorted(found.kept, key=lambda unit: unit.start):
        edges.setdefault(unit.passage, []).extend((unit.start, unit.stop))
    for p, passage in enumerate(found.passages):
        if p not in edges or not _MAY_FAIL.search(passage.text):
            continue
        parsed = parse_tool_output(passage.text)
        failures = [part for part in parsed.parts if part.level == Level.MESSAGE]
        if parsed.format in _NO_LOGS or not failures:
            continue
        lacking = [
            sum(bisect_right(edges[p], at) % 2 == 0 for at in _ends(passage.text, part))
            for part in failures
        ]
        if all(lacks == 2 for lacks in lacking):
            lines = "line reports" if len(failures) == 1 else "lines report"
            yield (
                f"document {p + 1}: {len(failures)} {lines} a failure, and none was kept; raise "
                "the budget, or shorten it as what a tool printed (compress_tool_output)"
            )
        elif 1 in lacking:
            yield (
                f"document {p + 1}: of a line that reports a failure a part was kept; raise the "
                "budget for the rest of it"
            )


def _ends(text: str, part: Part) -> tuple[int, int]:
    """The first and the last character of a part that show something."""
    shown = text[part.start : part.stop]
    first = part.start + len(shown) - len(shown.lstrip())
    return first, max(first, part.start + len(shown.rstrip()) - 1)


def _floor_warnings(scores: Scores, floor: float | None) -> Iterator[str]:
    """The warning of a floor that the context is below, where nobody said what is to follow."""
    if floor is not None and scores.answerability is not None and scores.answerability < floor:
        yield (
            f"answerability is {scores.answerability:.2f}, below {floor:.2g}: the context seems to "
            "hold no answer, and the best there is was kept (unanswerable decides otherwise)"
        )


@dataclass(frozen=True, slots=True)
class PassageResult:
    """One passage and what was kept of it.

    Attributes:
        score: for ranking; None where nothing was scored.
        units: indices of its units.
        kept: those that stayed.
        text: the kept units as rendered.
        tokens_before: of all units, rendered likewise.
        tokens_after: of `text`.
    """

    index: int
    passage: Passage
    score: float | None
    units: tuple[int, ...]
    kept: tuple[int, ...]
    text: str
    tokens_before: int
    tokens_after: int

    @property
    def label(self) -> str:
        """What to call the passage in a table: its id, its title, or its place."""
        return self.passage.id or self.passage.title or f"document {self.index + 1}"

    @property
    def raw_score(self) -> float | None:
        """The method's own score; None where nothing was scored, and without units."""
        scored = self.units and self.score is not None and math.isfinite(self.score)
        return self.score if scored else None

    def evidence(self, calibrated: bool) -> float | None:
        """The best unit's score in [0, 1], 0 without units; None where nothing was scored.

        Args:
            calibrated: whether scores are probabilities.
        """
        if self.score is None:
            return None
        return to_probability(self.score, calibrated) if self.units else 0.0


def per_passage(result: Compressed, rules: Rules, counter: TextTokenizer) -> list[PassageResult]:
    """One result per passage, in the order of the input."""
    renderer = Renderer(result.passages, result.units, rules)
    units: list[list[int]] = [[] for _ in result.passages]
    for u, unit in enumerate(result.units):
        units[unit.passage].append(u)
    kept_units = {kept.unit for kept in result.kept}
    kept = [[u for u in mine if u in kept_units] for mine in units]
    texts = [renderer.text(mine) for mine in kept]
    before = counter.count_many([renderer.text(mine) for mine in units])
    scores: Sequence[float | None] = result.passage_scores or [None] * len(units)
    after = counter.count_many(texts)
    return [
        PassageResult(
            p, passage, scores[p], tuple(units[p]), tuple(kept[p]), texts[p], before[p], after[p]
        )
        for p, passage in enumerate(result.passages)
    ]
