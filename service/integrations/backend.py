"""Backends of the adapters: `LocalBackend` in this process; `remote` has one for a server.

An adapter knows its framework and nothing of models; a backend knows passages.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from tamis.compressors.method import at_both_ends, best_first
from tamis.compressors.pipeline.compression import per_passage
from tamis.compressors.registry import DEFAULT
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.types import Compressed, to_probability
from tamis.probes.errors import TamisError
from tamis.probes.interruption import end_with_task
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import compress, counter_of
from tamis.service.api.languages import STANDARD, choose_proxy, probe_option
from tamis.service.api.rerank import rerank
from tamis.text.language import AUTO
from tamis.text.types import Passage

T = TypeVar("T")
logger = logging.getLogger("tamis")


@cache
def _threads_of_process(pid: int) -> ThreadPoolExecutor:
    """The threads that calls run in; those of a pool that was forked are counted, and do not run.

    Not the event loop's default pool: calls that wait for a model here do not hold up other users
    of that pool, and a call that is cancelled while it waits is never started.
    """
    return ThreadPoolExecutor(4, thread_name_prefix="tamis")


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingPlan:
    """How texts are scored: the method, its own options, and the language."""

    method: str = DEFAULT
    options: Mapping[str, Any] = field(default_factory=dict)
    language: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionPlan(RankingPlan):
    """All parameters of a compression except the question and the passages."""

    budget: Budget
    rules: Rules = field(default_factory=Rules)
    tokenizer: Any = "proxy"


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is kept of one passage.

    Attributes:
        passage: its index in the input.
        text: the kept units, verbatim, joined as in the whole text.
        spans: of the kept units in the passage, as half-open code points; adjacent units are one
            span.
        score: the method's own, of its best unit; None where nothing was scored.
        tokens_in: tokens of the passage. tokens_out: of `text`. None where nothing was counted.
    """

    passage: int
    text: str
    spans: tuple[tuple[int, int], ...]
    score: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(frozen=True, slots=True)
class CompressedContext:
    """What is kept of all passages, in the order to show it; passages without any are left out.

    Joined by `Rules.separator` the parts are within the budget.

    Attributes:
        status: `ok`; `passthrough` when the whole context fitted; `unanswerable` when it seems to
            hold no answer; `failed` when it is returned whole because of an error; `shadow` when it
            is returned whole because the caller set `shadow`.
        answerability: the probability that it holds an answer; None where the method gives none.
        verdict, reason, calibrated: as in `Compressed`.
        warnings: what the caller should know.
        model: the proxy's name; None where nothing was compressed.
    """

    parts: tuple[Excerpt, ...]
    status: str
    method: str
    answerability: float | None = None
    warnings: tuple[str, ...] = ()
    model: str | None = None
    verdict: str | None = None
    reason: str = ""
    calibrated: bool = False

    def evidence(self, part: Excerpt) -> float | None:
        """The score of a part in [0, 1]; None where nothing was scored."""
        return None if part.score is None else to_probability(part.score, self.calibrated)


def to_shadow(context: CompressedContext, passages: Sequence[Passage]) -> CompressedContext:
    """Every passage whole and in input order; spans and counts say what would have been kept."""
    kept = {part.passage: part for part in context.parts}
    parts = tuple(
        replace(kept.get(i, Excerpt(i, "", (), tokens_out=0)), text=passage.text)
        for i, passage in enumerate(passages)
    )
    return replace(context, parts=parts, status="shadow")


class LocalBackend:
    """tamis in this process: the model is loaded at the first question, shared by all adapters.

    Args:
        proxy, cache, quality, root: as `tamis.compress` takes them.
    """

    def __init__(
        self,
        proxy: Any = AUTO,
        cache: Any = None,
        *,
        quality: Any = STANDARD,
        root: Path | None = None,
    ) -> None:
        self.proxy, self.quality = proxy, quality
        self._places: dict[str, Any] = {"cache": cache, "root": root}

    def compress(
        self, question: str, passages: Sequence[Passage], plan: CompressionPlan
    ) -> CompressedContext:
        """What is kept of each passage."""
        root, probe = self._places["root"], probe_option(plan.options)
        choice = choose_proxy(
            self.proxy, plan.method, plan.language, question, passages, root, probe, self.quality
        )
        counter = counter_of(plan.tokenizer, choice.proxy, root)
        context = compress(
            question,
            passages,
            **asdict(plan.budget),
            method=plan.method,
            tokenizer=counter,
            rules=plan.rules,
            proxy=choice.proxy,
            language=choice.language,
            **self._places,
            **plan.options,
        )
        context = choice.add_warning(context)
        return CompressedContext(
            kept_passages(context, plan.rules, counter),
            context.status,
            plan.method,
            context.answerability,
            context.warnings,
            _proxy_name(choice.proxy),
            context.verdict,
            context.reason,
            context.calibrated,
        )

    async def acompress(
        self, question: str, passages: Sequence[Passage], plan: CompressionPlan
    ) -> CompressedContext:
        """`compress` in a thread.

        Cancellation returns at once. A question that was not yet started is dropped; the reading of
        another ends with the batch that the model has.
        """
        return await run_in_thread(partial(self.compress, question, passages, plan))

    def rank(self, question: str, texts: Sequence[str], plan: RankingPlan) -> tuple[float, ...]:
        """One score for each text, from 0 to 1, in the order of the texts.

        A probability where the method is calibrated, else its score through a sigmoid.
        """
        ranked = rerank(
            question,
            texts,
            method=plan.method,
            language=plan.language,
            proxy=self.proxy,
            quality=self.quality,
            **self._places,
            **plan.options,
        )
        scores = {r.index: to_probability(r.own, ranked.calibrated) for r in ranked.results}
        return tuple(scores[i] for i in range(len(texts)))

    async def arank(
        self, question: str, texts: Sequence[str], plan: RankingPlan
    ) -> tuple[float, ...]:
        """`rank` in a thread; cancellation as in `acompress`."""
        return await run_in_thread(partial(self.rank, question, texts, plan))


def _proxy_name(proxy: Any) -> str:
    """The proxy's name as its card gives it; the proxy need not be loaded."""
    if not isinstance(proxy, str | Path):
        return str(proxy.card.name)
    return Path(proxy).resolve().name if Path(proxy).is_dir() else str(proxy)


def kept_passages(context: Compressed, rules: Rules, counter: TextTokenizer) -> tuple[Excerpt, ...]:
    """A compression by passage; joined by the separator, the texts are `context.text`."""
    found = per_passage(context, replace(rules, titles=False, citations=None), counter)
    parts = [
        Excerpt(
            result.index,
            result.text,
            tuple(context.spans(result.index)),
            result.score,
            result.tokens_before,
            result.tokens_after,
        )
        for result in found
        if result.text
    ]
    return order_parts(parts, rules.order)


def order_parts(parts: Sequence[Excerpt], order: str) -> tuple[Excerpt, ...]:
    """Parts in the order in which rendering shows them; without scores, in input order."""
    if order == "original" or any(part.score is None for part in parts):
        return tuple(parts)
    ranked = [parts[i] for i in best_first([part.score or 0.0 for part in parts])]
    if order == "score":
        return tuple(ranked)
    return tuple(ranked[i] for i in at_both_ends(range(len(ranked))))


def pass_through(passages: Sequence[Passage], method: str, why: str) -> CompressedContext:
    """Every passage unchanged, because of an error."""
    parts = (Excerpt(i, p.text, ((0, len(p.text)),)) for i, p in enumerate(passages))
    return CompressedContext(tuple(parts), "failed", method, warnings=(why,))


def is_backend_failure(error: Exception) -> bool:
    """Whether the model or the server failed, rather than the request or the set-up being wrong."""
    return not isinstance(error, TamisError) or getattr(error, "is_backend_failure", False)


@contextmanager
def log_errors(on_error: str, message: str, *of: object) -> Iterator[None]:
    """Logs an error of the block in place of raising it, unless `on_error` is `fail`.

    Args:
        message: says what is passed on as it is, of what, and why.
    """
    try:
        yield
    except Exception as error:
        if on_error == "fail":
            raise
        logger.warning(message, *of, error)


@end_with_task
async def run_in_thread(call: Callable[[], T]) -> T:
    """Runs a call in a thread of this module's pool, with the context variables of its caller."""
    context = contextvars.copy_context()
    threads = _threads_of_process(os.getpid())
    return await asyncio.get_running_loop().run_in_executor(threads, context.run, call)
