"""A tamis server as a backend: only questions, titles and texts are sent, never metadata."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from tamis.probes.errors import MissingExtra
from tamis.probes.text import Passage
from tamis.service.integrations.backend import KeptPassage, CompressionPlan, RankingPlan, CompressedContext, order_parts

try:
    from tamis.service.http.schemas.about import Info, Limits
    from tamis.service.http.schemas.cohere import CohereAnswer
    from tamis.service.http.schemas.compression import Compression, DocumentResult
    from tamis.service.http.schemas.score import ScoreAnswer
    from tamis.service.integrations.client import AsyncClient, Client, ServiceError
except ModuleNotFoundError as error:
    raise MissingExtra(
        f'base_url needs {error.name}, which is not installed; pip install "tamis[service]"'
    ) from error


_INFO_LIFETIME_S = 30.0
"""How long it is taken for granted what a server said of itself."""


@lru_cache(maxsize=32)
def remote_backend(base_url: str, api_key: str | None, timeout_s: float) -> RemoteBackend:
    """The server at an address, with its open connections; threads share it."""
    return RemoteBackend(base_url, api_key, timeout_s)


class RemoteBackend:
    """Calls of a server. What it refuses, or that it cannot be reached, is a `ServiceError`."""

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        self._where = (base_url, api_key)
        self._timeout_s = timeout_s
        self._client = Client(*self._where, timeout_s=timeout_s)
        self._loop: tuple[asyncio.AbstractEventLoop, AsyncClient] | None = None
        self._info: tuple[float, Info] | None = None

    def compress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """What is kept of each passage."""
        found = self._client.compress(question, _request_documents(passages), **_request_fields(plan))
        return _compressed_context(found, passages, plan)

    async def acompress(self, question: str, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
        """`compress`, with the event loop free meanwhile; cancelled, the request is dropped."""
        client = self._of_this_loop()
        found = await client.compress(question, _request_documents(passages), **_request_fields(plan))
        return _compressed_context(found, passages, plan)

    def rank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """One score a text, from 0 to 1, in the order of the texts.

        As in this process they are read together; more than the server takes at once, each alone.

        Raises:
            ServiceError: it has no such method, which it would pass over in silence.
        """
        limits = self._limits(self._known() or self._client.info(), how.method)
        if len(texts) <= limits.max_documents:
            return _scores_in_order(self._client.rerank(question, texts, model=how.method))
        parts = _request_slices(texts, limits)
        return _join_scores(self._client.score(question, part, model=how.method) for part in parts)

    async def arank(self, question: str, texts: Sequence[str], how: RankingPlan) -> tuple[float, ...]:
        """`rank`, with the event loop free meanwhile; cancelled, the request is dropped."""
        client = self._of_this_loop()
        limits = self._limits(self._known() or await client.info(), how.method)
        if len(texts) <= limits.max_documents:
            return _scores_in_order(await client.rerank(question, texts, model=how.method))
        parts = _request_slices(texts, limits)
        return _join_scores([await client.score(question, part, model=how.method) for part in parts])

    def _known(self) -> Info | None:
        held = self._info
        return held[1] if held and time.monotonic() - held[0] < _INFO_LIFETIME_S else None

    def _limits(self, info: Info, method: str) -> Limits:
        """What one request may have.

        Raises:
            ServiceError: the server has no such method.
        """
        if self._known() is not info:
            self._info = (time.monotonic(), info)
        if method not in (*info.methods, "default", info.model_id):
            raise ServiceError(
                f"there is no method {method!r} at {self._where[0]}; give one of "
                f"{', '.join(info.methods)}, or start it with others by --methods",
                404,
                "model_not_found",
            )
        return info.limits

    def _of_this_loop(self) -> AsyncClient:
        """Connections belong to the loop they were opened in, and `asyncio.run` makes many loops.

        The last loop's are kept: programs have one at a time, and this way none is kept for ever.
        """
        loop, held = asyncio.get_running_loop(), self._loop
        if held is None or held[0] is not loop:
            held = (loop, AsyncClient(*self._where, timeout_s=self._timeout_s))
            self._loop = held
        return held[1]


def _request_documents(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    return [{"text": p.text} | ({"title": p.title} if p.title else {}) for p in passages]


def _request_fields(plan: CompressionPlan) -> dict[str, Any]:
    """A plan in the words of `POST /v1/compress`; what is None is left to the server."""
    budget, rules = plan.budget, plan.rules
    given = {
        "method": plan.method,
        "language": plan.language,
        "tokenizer": plan.tokenizer,
        "max_tokens": budget.max_tokens,
        "ratio": budget.ratio,
        "threshold": budget.threshold,
        "coverage": budget.coverage,
        "top_n": rules.top_n,
        "order": rules.order,
        "granularity": rules.granularity,
        "context_window": rules.context_window,
        "protect": {"regex": list(rules.protect)} if rules.protect else None,
        "dedup": rules.dedup,
        "separator": rules.separator,
        "elision": rules.elision,
        "answerable_floor": rules.answerable_floor,
        "unanswerable": rules.unanswerable,
    }
    return {name: value for name, value in given.items() if value is not None}


def _compressed_context(found: Compression, passages: Sequence[Passage], plan: CompressionPlan) -> CompressedContext:
    parts = [_kept_passage(r, passages[r.index].text) for r in found.results or () if r.text]
    return CompressedContext(
        order_parts(parts, plan.rules.order),
        found.status,
        found.method,
        found.answerability,
        tuple(found.warnings),
        found.model,
    )


def _kept_passage(result: DocumentResult, text: str) -> KeptPassage:
    """One document's result; sentences with nothing but white space between them touch."""
    spans: list[tuple[int, int]] = []
    for span in result.relevant_spans or ():
        if spans and not text[spans[-1][1] : span.start].strip():
            spans[-1] = (spans[-1][0], span.end)
        else:
            spans.append((span.start, span.end))
    # as the method has it, as in this process; a server of before had that as relevance_score
    score = result.relevance_score if result.raw_score is None else result.raw_score
    return KeptPassage(
        result.index,
        result.text or "",
        tuple(spans),
        score,
        result.tokens_before,
        result.tokens_after,
    )


def _scores_in_order(answer: CohereAnswer) -> tuple[float, ...]:
    scores = {result.index: result.relevance_score for result in answer.results}
    return tuple(scores[i] for i in range(len(scores)))


def _request_slices(texts: Sequence[str], limits: Limits) -> Iterator[Sequence[str]]:
    """The texts in parts, none with more than a request may have; a character is a token at most.

    A text that is longer goes alone, and the server says what it thinks of it.
    """
    start, chars = 0, 0
    for stop, text in enumerate(texts):
        full = stop - start == limits.max_documents
        if stop > start and (full or chars + len(text) > limits.max_request_tokens):
            yield texts[start:stop]
            start, chars = stop, 0
        chars += len(text)
    yield texts[start:]


def _join_scores(answers: Iterable[ScoreAnswer]) -> tuple[float, ...]:
    return tuple(
        item.score for answer in answers for item in sorted(answer.data, key=lambda d: d.index)
    )
