"""Shared by the rerank routes: rankings of documents and scores of pairs, in no dialect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from tamis.compressors.inputs import question_text
from tamis.compressors.method import reading_everything
from tamis.compressors.pipeline.reranking import PreparedRanking, Reranker, prepare_ranking
from tamis.compressors.types import Reranked
from tamis.service.api.spans import ranking_attributes, set_attributes
from tamis.service.engine.deadline import UnderDeadline
from tamis.service.engine.errors import OutOfTime
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import check_limits, log_entry, request_span, service_state
from tamis.service.http.runtime.executor import estimate_tokens, run_while_connected
from tamis.service.http.runtime.methods import can_isolate
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.base import to_probability


@dataclass(frozen=True, slots=True)
class Pairs:
    """Scores of pairs.

    Attributes:
        scores: of each pair its score, and whether that is a probability.
        model: as `answered_model` gives it. tokens_read: of all pairs.
    """

    scores: list[tuple[float, bool]]
    model: str
    tokens_read: int
    warnings: list[str]


async def rank_documents(
    request: Request,
    query: str,
    texts: list[str],
    top_n: int | None,
    model: str | None,
    priority: int = 0,
    instruction: str | None = None,
    timeout_ms: int | None = None,
    with_spans: bool = False,
) -> Reranked:
    """The documents, ranked by the service's method or the one that `model` names.

    Args:
        timeout_ms: after this time documents that were not read are ranked by their words, which
            `warnings` says.
        with_spans: whether units are needed, for which words alone do not do.

    Raises:
        OutOfTime: nothing was read in time, and there are no spans without.
    """
    state, entry = service_state(request), log_entry(request)
    question = question_text(query, instruction)
    check_limits(state.settings, [question], len(texts), sum(map(len, texts)))
    method = method_or_default(state, model)

    def prepare() -> PreparedRanking:
        return prepare_ranking(question, texts, top_n=top_n)

    def tokens(_: PreparedRanking) -> int:
        return estimate_tokens(question, texts) if state.uses_proxy(method) else 0

    def work(prepared: PreparedRanking, queued: QueuedRequest) -> Reranked:
        scorer = state.methods.scorer(method)
        # spans are chosen by probabilities, which were calibrated on whole readings
        ranker = UnderDeadline(reading_everything(scorer) if with_spans else scorer)
        reranker = Reranker(ranker, method)
        ranks = reranker.rank(prepared)
        if ranks.passages_read is not None:
            entry.count_partial(state.metrics)
        if with_spans and ranks.passages_read == 0:
            raise OutOfTime("no document was read within timeout_ms, and spans need that")
        found = reranker.sort(prepared, ranks)
        timings = {**found.timings_ms, "queue": queued.queue_ms, "forward": queued.forward_ms}
        state.metrics.observe_stages(timings)
        state.metrics.cached_tokens.inc(found.tokens_cached)
        return replace(found, timings_ms=timings)

    limits = state.executor.limits(timeout_ms)
    with request_span(state, "rerank", model) as span:
        running = state.executor.run_prepared(prepare, tokens, work, priority, limits)
        found = await run_while_connected(request.receive, running)
        if span is not None:
            set_attributes(span, _span_attributes(state, found, top_n))
    return found


async def score_pairs(
    request: Request,
    queries: Sequence[str],
    texts: list[str],
    model: str | None,
    priority: int = 0,
    instruction: str | None = None,
    timeout_ms: int | None = None,
) -> Pairs:
    """A score for each pair, independent of the other pairs; one query may be for all texts.

    Raises:
        OutOfTime: not every pair was read within `timeout_ms`.
    """
    state = service_state(request)
    questions = [question_text(query, instruction) for query in queries]
    check_limits(state.settings, questions[:1], len(texts), sum(map(len, texts)))
    check_limits(state.settings, questions, 0) if len(questions) > 1 else None
    method = method_or_default(state, model)

    def prepare() -> list[PreparedRanking]:
        if len(questions) == 1 and can_isolate(method):
            return [prepare_ranking(questions[0], texts)]
        repeated = questions if len(questions) > 1 else questions * len(texts)
        return [prepare_ranking(q, [t]) for q, t in zip(repeated, texts, strict=True)]

    def tokens(_: list[PreparedRanking]) -> int:
        longest = max(questions, key=len)
        return estimate_tokens(longest, texts) if state.uses_proxy(method) else 0

    def work(prepared: list[PreparedRanking], queued: QueuedRequest) -> list[Reranked]:
        ranker = state.methods.reranker(method, isolated=True)
        with queued.stopping_at_deadline():
            return [ranker.sort(one, ranker.rank(one)) for one in prepared]

    limits = state.executor.limits(timeout_ms)
    running = state.executor.run_prepared(prepare, tokens, work, priority, limits)
    found = await run_while_connected(request.receive, running)
    return Pairs(
        [(score, one.calibrated) for one in found for score in _scores_by_document(one)],
        answered_model(state, model, method),
        sum(one.tokens_read for one in found),
        list(dict.fromkeys(warning for one in found for warning in one.warnings)),
    )


def _span_attributes(state: ServiceState, found: Reranked, top_n: int | None) -> dict[str, Any]:
    scores = [to_probability(result.score, found.calibrated) for result in found.results]
    return {
        **ranking_attributes(found),
        "gen_ai.response.model": state.methods.reader.card.name,
        "gen_ai.rerank.top_n": top_n,
        "gen_ai.rerank.scores": scores if state.settings.traces == "scores" else None,
    }


def method_or_default(state: ServiceState, model: str | None) -> str:
    """The method named by `model`, or the default."""
    return state.methods.known_model(model) or state.settings.method


def answered_model(state: ServiceState, named_model: str | None, method: str) -> str:
    """The `model` of an answer: a method that was named, else the proxy that read.

    A method that reads without a proxy is always named itself.
    """
    return (
        method
        if named_model == method or not state.uses_proxy(method)
        else state.methods.reader.card.name
    )


def model_of_answer(request: Request, named_model: str | None) -> str:
    """The `model` of the answer to a request."""
    state = service_state(request)
    return answered_model(state, named_model, method_or_default(state, named_model))


def _scores_by_document(found: Reranked) -> list[float]:
    scores = [0.0] * len(found.passages)
    for ranked in found.results:
        scores[ranked.index] = ranked.score
    return scores
