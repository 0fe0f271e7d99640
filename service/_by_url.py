"""A tamis server as a backend: only questions, titles and texts are sent, never metadata."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from tamis.probes.errors import MissingExtra
from tamis.probes.text import Passage
from tamis.service._backend import Part, Plan, Ranking, Short, arranged

try:
    from tamis.service.client import AsyncClient, Client
    from tamis.service.wire.cohere import CohereAnswer
    from tamis.service.wire.compressed import Compression, DocumentResult
except ModuleNotFoundError as error:
    raise MissingExtra(
        f'base_url needs {error.name}, which is not installed; pip install "tamis[service]"'
    ) from error


@lru_cache(maxsize=32)
def server(base_url: str, api_key: str | None, timeout_s: float) -> ByUrl:
    """The server at an address, with its open connections; threads share it."""
    return ByUrl(base_url, api_key, timeout_s)


class ByUrl:
    """Calls of a server. What it refuses, or that it cannot be reached, is a `ServiceError`."""

    def __init__(self, base_url: str, api_key: str | None, timeout_s: float) -> None:
        self._where = (base_url, api_key)
        self._timeout_s = timeout_s
        self._client = Client(*self._where, timeout_s=timeout_s)
        self._loop: tuple[asyncio.AbstractEventLoop, AsyncClient] | None = None

    def compress(self, question: str, passages: Sequence[Passage], plan: Plan) -> Short:
        """What is kept of each passage."""
        found = self._client.compress(question, _documents(passages), **_fields(plan))
        return _short(found, passages, plan)

    async def acompress(self, question: str, passages: Sequence[Passage], plan: Plan) -> Short:
        """`compress`, with the event loop free meanwhile; cancelled, the request is dropped."""
        client = self._of_this_loop()
        found = await client.compress(question, _documents(passages), **_fields(plan))
        return _short(found, passages, plan)

    def rank(self, question: str, texts: Sequence[str], how: Ranking) -> tuple[float, ...]:
        """One score a text, from 0 to 1, in the order of the texts."""
        return _scores(self._client.rerank(question, texts, model=how.method))

    async def arank(self, question: str, texts: Sequence[str], how: Ranking) -> tuple[float, ...]:
        """`rank`, with the event loop free meanwhile; cancelled, the request is dropped."""
        client = self._of_this_loop()
        return _scores(await client.rerank(question, texts, model=how.method))

    def _of_this_loop(self) -> AsyncClient:
        """Connections belong to the loop they were opened in, and `asyncio.run` makes many loops.

        The last loop's are kept: programs have one at a time, and this way none is kept for ever.
        """
        loop, held = asyncio.get_running_loop(), self._loop
        if held is None or held[0] is not loop:
            held = (loop, AsyncClient(*self._where, timeout_s=self._timeout_s))
            self._loop = held
        return held[1]


def _documents(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    return [{"text": p.text} | ({"title": p.title} if p.title else {}) for p in passages]


def _fields(plan: Plan) -> dict[str, Any]:
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


def _short(found: Compression, passages: Sequence[Passage], plan: Plan) -> Short:
    parts = [_part(r, passages[r.index].text) for r in found.results or () if r.text]
    return Short(
        arranged(parts, plan.rules.order),
        found.status,
        found.method,
        found.answerability,
        tuple(found.warnings),
    )


def _part(result: DocumentResult, text: str) -> Part:
    """One document's result; sentences with nothing but white space between them touch."""
    spans: list[tuple[int, int]] = []
    for span in result.relevant_spans or ():
        if spans and not text[spans[-1][1] : span.start].strip():
            spans[-1] = (spans[-1][0], span.end)
        else:
            spans.append((span.start, span.end))
    return Part(
        result.index,
        result.text or "",
        tuple(spans),
        result.relevance_score,
        result.tokens_before,
        result.tokens_after,
    )


def _scores(answer: CohereAnswer) -> tuple[float, ...]:
    scores = {result.index: result.relevance_score for result in answer.results}
    return tuple(scores[i] for i in range(len(scores)))
