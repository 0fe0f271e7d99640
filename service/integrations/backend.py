"""Where the adapters' work is done: in this process here, by a server in `_by_url`.

An adapter speaks its framework's words and knows nothing of models; a backend speaks passages.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tamis.compressors.pipeline.results import per_passage
from tamis.compressors.registry import DEFAULT
from tamis.compressors.selection.order import at_both_ends, best_first
from tamis.compressors.types import Budget, Compressed, Rules
from tamis.probes.errors import TamisError
from tamis.probes.segmentation.language import AUTO
from tamis.probes.text import Passage
from tamis.probes.tokens import Tokens
from tamis.service.api.compress import compress, counter_of
from tamis.service.api.languages import choose_proxy
from tamis.service.api.rerank import rerank
from tamis.service.http.schemas.base import to_probability

T = TypeVar("T")

_threads = ThreadPoolExecutor(4, thread_name_prefix="tamis")
"""Not the loop's own pool: what waits here for a model keeps nobody else's files and names waiting,
and what is cancelled while it waits is never begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankingPlan:
    """How texts are scored."""

    method: str = DEFAULT
    language: str = AUTO


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressionPlan(RankingPlan):
    """How a compression is made, question and passages aside."""

    budget: Budget
    rules: Rules = field(default_factory=Rules)
    tokenizer: Any = "proxy"


@dataclass(frozen=True, slots=True)
class KeptPassage:
    """What is kept of one passage.

    Attributes:
        passage: its place in the input.
        text: the kept units, verbatim, joined as in the whole text.
        spans: where they stand in the passage: half-open code points; units that touch are joined.
        score: how well the passage answers; None where no model was asked.
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
    """The parts of all passages that keep something, in the order to show them.

    Joined by `Rules.separator` they are within the budget.

    Attributes:
        status: `ok`, `passthrough` when the whole context fitted, `unanswerable` when it seems to
            hold no answer, `failed` when it came back whole because of an error, or `shadow` when
            it came back whole because that was asked for.
        answerability: the probability that it holds one; None where the method cannot tell.
        warnings: what a caller should know.
        model: the proxy's name; None where nothing came of it.
    """

    parts: tuple[KeptPassage, ...]
    status: str
    method: str
    answerability: float | None = None
    warnings: tuple[str, ...] = ()
    model: str | None = None


def to_shadow(short: CompressedContext, passages: Sequence[Passage]) -> CompressedContext:
    """Every passage whole, in its place; spans and counts say what would have been kept."""
    kept = {part.passage: part for part in short.parts}
    parts = tuple(
        replace(kept.get(i, KeptPassage(i, "", (), tokens_out=0)), text=passage.text)
        for i, passage in enumerate(passages)
    )
    return replace(short, parts=parts, status="shadow")


class Backend(Protocol):
    """Whoever compresses and ranks. All four raise `TamisError` and its kinds."""

    def compress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """What is kept of each passage."""

    async def acompress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """`compress`, with the event loop free meanwhile."""

    def rank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """One score a text, from 0 to 1, in the order of the texts.

        A probability where the method is calibrated, else its score through a sigmoid.
        """

    async def arank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """`rank`, with the event loop free meanwhile."""


class LocalBackend:
    """tamis as a library: the model is loaded at the first question and shared by all adapters.

    Args:
        proxy, cache: as `tamis.compress` takes them. options: the method's own.
    """

    def __init__(self, proxy: Any = AUTO, cache: Any = None, **options: Any) -> None:
        self.proxy = proxy
        self._given = options | ({} if cache is None else {"cache": cache})

    def compress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """What is kept of each passage."""
        root = self._given.get("root")
        probe = self._given.get("probe", AUTO)
        choice = choose_proxy(self.proxy, plan.method, plan.language, question, passages, root, probe)
        counter = counter_of(plan.tokenizer, choice.proxy, root)
        budget = plan.budget
        short = compress(
            question,
            passages,
            max_tokens=budget.max_tokens,
            ratio=budget.ratio,
            threshold=budget.threshold,
            coverage=budget.coverage,
            method=plan.method,
            tokenizer=counter,
            rules=plan.rules,
            proxy=choice.proxy,
            language=choice.language,
            **self._given,
        )
        short = choice.noted(short)
        return CompressedContext(
            kept_passages(short, plan.rules, counter),
            short.status,
            plan.method,
            short.answerability,
            short.warnings,
            _proxy_name(choice.proxy),
        )

    async def acompress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """`compress` in a thread.

        Whoever is cancelled is let go at once. A question that was not yet begun is dropped; one
        that is being read is read to its end and forgotten.
        """
        return await run_in_thread(partial(self.compress, question, passages, plan))

    def rank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """One score a text, in the order of the texts."""
        ranked = rerank(
            question,
            texts,
            method=how.method,
            language=how.language,
            proxy=self.proxy,
            **self._given,
        )
        scores = {r.index: to_probability(r.own, ranked.calibrated) for r in ranked.results}
        return tuple(scores[i] for i in range(len(texts)))

    async def arank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """`rank` in a thread, cancelled as `acompress`."""
        return await run_in_thread(partial(self.rank, question, texts, how))


def _proxy_name(proxy: Any) -> str:
    """What a proxy's card says it is called; it need not be loaded for that."""
    if not isinstance(proxy, str | Path):
        return str(proxy.card.name)
    return Path(proxy).resolve().name if Path(proxy).is_dir() else str(proxy)


def kept_passages(short: Compressed, rules: Rules, counter: Tokens) -> tuple[KeptPassage, ...]:
    """A compression passage by passage; joined by the separator, the texts are `short.text`."""
    found = per_passage(short, replace(rules, titles=False, citations=None), counter)
    parts = [
        KeptPassage(
            source.index,
            source.text,
            tuple(short.spans(source.index)),
            source.score,
            source.tokens_before,
            source.tokens_after,
        )
        for source in found
        if source.text
    ]
    return order_parts(parts, rules.order)


def order_parts(parts: Sequence[KeptPassage], order: str) -> tuple[KeptPassage, ...]:
    """Parts in the order in which rendering shows them; without scores that is as given."""
    if order == "original" or any(part.score is None for part in parts):
        return tuple(parts)
    ranked = [parts[i] for i in best_first([part.score or 0.0 for part in parts])]
    if order == "score":
        return tuple(ranked)
    return tuple(ranked[i] for i in at_both_ends(range(len(ranked))))


def pass_through(passages: Sequence[Passage], method: str, why: str) -> CompressedContext:
    """Every passage as it is, because of an error."""
    parts = (KeptPassage(i, p.text, ((0, len(p.text)),)) for i, p in enumerate(passages) if p.text)
    return CompressedContext(tuple(parts), "failed", method, warnings=(why,))


def is_backend_failure(error: Exception) -> bool:
    """Whether the model or the server failed, and not the request or how things were set up."""
    return not isinstance(error, TamisError) or getattr(error, "broke_down", False)


async def run_in_thread(call: Callable[[], T]) -> T:
    """A call in a thread of ours, with the context variables of whoever awaits it."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_threads, context.run, call)
