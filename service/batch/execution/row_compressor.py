"""Rows to outcomes: rows of a length together, and short ones through one reading."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import with_cache
from tamis.compressors.registry import build_method, layers_needed, load_proxy, method_info
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.kv_cache.cache import PassageCache
from tamis.service.api.compress import counter_of
from tamis.service.api.lazy_method import ordering_methods
from tamis.service.batch.execution.pooling import MOST_ROWS, NotShared, Pooled
from tamis.service.batch.job import Job
from tamis.service.batch.outcome import Outcome
from tamis.service.batch.rows import Request

Tick = Callable[[Outcome], None]
_CHARS_A_TOKEN = 4
_MOST_CHARS_A_TOKEN = 64  # no language needs so many: beyond it nothing has to be counted
_MOST_TOKENS_A_CHAR = 4  # bytes of one character in UTF-8
_BATCHES_A_GROUP = 4
"""A group fills so many batches of the proxy: the last, half-empty one then weighs little."""

_ROWS_A_BATCH = 4
"""A row that fills more than this part of a batch gains nothing by company: it is read alone, as
the single call would read it (one core, bf16: 2.2 times as fast at 30 tokens a row, 1.4 at 80, 1.0
at 300)."""


class Rows:
    """The method of a job, loaded once, and how rows share its readings."""

    def __init__(self, job: Job) -> None:
        root = Path(job.root) if job.root else None
        self.job, self.pool, self.batch_chars = job, None, 0
        given: dict[str, Any] = dict(job.options)
        self.counter = counter_of(job.tokenizer, job.proxy, root)
        if method_info(job.method).needs_proxy:
            proxy = load_proxy(job.proxy, layers_needed(job.method, job.proxy, **job.options), root)
            self.pool = given["proxy"] = Pooled(with_cache(proxy, _kept(job)))
            self.batch_chars = proxy.batch_tokens * _CHARS_A_TOKEN if job.share else 0
        self.compressor = Compressor(
            build_method(job.method, root=root, **given),
            job.method,
            self.counter,
            ordering_methods(job.proxy, root),
        )

    def outcomes(self, requests: Sequence[Request], tick: Tick | None = None) -> list[Outcome]:
        """What came of each request, in order; what goes wrong with one is told in its outcome.

        Args:
            tick: called with each outcome when it is there, in any order.
        """
        found: list[Outcome | None] = [None] * len(requests)
        for group in groups([request.chars for request in requests], self.batch_chars):
            for place, outcome in zip(
                group, self._group([requests[i] for i in group]), strict=True
            ):
                found[place] = outcome
                if tick:
                    tick(outcome)
        return [outcome for outcome in found if outcome is not None]

    def _group(self, requests: Sequence[Request]) -> list[Outcome]:
        """Together if that is allowed; a row that failed in company is tried alone."""
        if self.pool is None or len(requests) == 1:
            return [self._alone(request) for request in requests]
        calls = [partial(self._compressed, request) for request in requests]
        results = self.pool.together(calls)
        return [
            self._alone(request)
            if isinstance(result, NotShared)
            else (_failed(result) if isinstance(result, Exception) else result)
            for request, result in zip(requests, results, strict=True)
        ]

    def _alone(self, request: Request) -> Outcome:
        try:
            return self._compressed(request)
        except Exception as error:  # one row must not end a run of days; its message is kept
            return _failed(error)

    def _compressed(self, request: Request) -> Outcome:
        self._check_size(request)
        result = self.compressor.compress(
            request.question,
            request.passages,
            self.job.budget,
            self.job.rules,
            language=self.job.language,
        )
        return Outcome.of(result)

    def _check_size(self, request: Request) -> None:
        most = self.job.max_input
        if request.chars > most * _MOST_CHARS_A_TOKEN:
            raise BadInput(
                f"the row has {request.chars:,} characters, far beyond the {most:,} tokens that "
                "are read; split its documents over several rows, or raise --max-input"
            )
        if request.chars * _MOST_TOKENS_A_CHAR <= most:
            return
        tokens = sum(self.counter.count_many([passage.text for passage in request.passages]))
        if tokens > most:
            raise BadInput(
                f"the row has {tokens:,} tokens and at most {most:,} are read; allow it with "
                f"--max-input {tokens} --retry-errors, or split its documents over several rows"
            )


def groups(chars: Sequence[int], batch_chars: int) -> Iterator[list[int]]:
    """Places of rows that are read together: of like length, shortest first.

    Args:
        chars: of each row. batch_chars: what one batch of the proxy holds; 0 for every row alone.
    """
    group: list[int] = []
    held = 0
    for place in sorted(range(len(chars)), key=lambda i: (chars[i], i)):
        full = held + chars[place] > batch_chars * _BATCHES_A_GROUP or len(group) == MOST_ROWS
        if group and (full or chars[place] * _ROWS_A_BATCH > batch_chars):
            yield group
            group, held = [], 0
        group.append(place)
        held += chars[place]
    if group:
        yield group


def _kept(job: Job) -> PassageCache | None:
    return None if job.cache is None else PassageCache(folder=Path(job.cache))


def _failed(error: Exception) -> Outcome:
    name = "" if isinstance(error, TamisError) else f"{type(error).__name__}: "
    return Outcome(status="error", error=f"{name}{error}")
