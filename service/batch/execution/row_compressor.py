"""Compresses rows: rows of similar length together, and short ones in one forward pass."""

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
from tamis.service.batch.execution.pooling import MAX_ROWS, PooledReader, SharedReadError
from tamis.service.batch.job import BatchJob
from tamis.service.batch.outcome import RowOutcome
from tamis.service.batch.rows import RowRequest

OutcomeCallback = Callable[[RowOutcome], None]
_CHARS_A_TOKEN = 4
_MAX_CHARS_A_TOKEN = 64  # no language has so many: a longer row is refused without counting
_MAX_TOKENS_A_CHAR = 4  # bytes of one character in UTF-8
_BATCHES_A_GROUP = 4
"""Batches of the proxy that a group fills, so that the last, half-empty one matters little."""

_ROWS_A_BATCH = 4
"""A row that fills more than a quarter of a batch gains nothing by sharing: it is read alone, as in
the single call (sharing on one core in bf16: 2.2 times as fast at 30 tokens a row, 1.4 at 80, 1.0
at 300)."""


class RowCompressor:
    """The method of a job, loaded once; short rows share its forward passes."""

    def __init__(self, job: BatchJob) -> None:
        root = Path(job.root) if job.root else None
        self.job, self.pool, self.batch_chars = job, None, 0
        given: dict[str, Any] = dict(job.options)
        self.counter = counter_of(job.tokenizer, job.proxy, root)
        if method_info(job.method).needs_proxy:
            proxy = load_proxy(job.proxy, layers_needed(job.method, job.proxy, **job.options), root)
            self.pool = given["proxy"] = PooledReader(with_cache(proxy, _open_cache(job)))
            self.batch_chars = proxy.batch_tokens * _CHARS_A_TOKEN if job.share else 0
        self.compressor = Compressor(
            build_method(job.method, root=root, **given),
            job.method,
            self.counter,
            ordering_methods(job.proxy, root),
        )

    def compress_rows(
        self, requests: Sequence[RowRequest], on_outcome: OutcomeCallback | None = None
    ) -> list[RowOutcome]:
        """The outcome of each request, in order; an error of one becomes its outcome.

        Args:
            on_outcome: called with each outcome as soon as it is known, in any order.
        """
        found: list[RowOutcome | None] = [None] * len(requests)
        for group in row_groups([request.chars for request in requests], self.batch_chars):
            for place, outcome in zip(
                group, self._compress_group([requests[i] for i in group]), strict=True
            ):
                found[place] = outcome
                if on_outcome:
                    on_outcome(outcome)
        return [outcome for outcome in found if outcome is not None]

    def _compress_group(self, requests: Sequence[RowRequest]) -> list[RowOutcome]:
        """The outcomes of a group; a row whose shared pass failed is tried again alone."""
        if self.pool is None or len(requests) == 1:
            return [self._compress_alone(request) for request in requests]
        calls = [partial(self._compress, request) for request in requests]
        results = self.pool.run_together(calls)
        return [
            self._compress_alone(request)
            if isinstance(result, SharedReadError)
            else (_error_outcome(result) if isinstance(result, Exception) else result)
            for request, result in zip(requests, results, strict=True)
        ]

    def _compress_alone(self, request: RowRequest) -> RowOutcome:
        try:
            return self._compress(request)
        except Exception as error:  # one row must not end a run of days; its message is recorded
            return _error_outcome(error)

    def _compress(self, request: RowRequest) -> RowOutcome:
        self._check_size(request)
        result = self.compressor.compress(
            request.question,
            request.passages,
            self.job.budget,
            self.job.rules,
            language=request.language(self.job.language),
        )
        return RowOutcome.from_compressed(result)

    def _check_size(self, request: RowRequest) -> None:
        max_tokens = self.job.max_input
        if request.chars > max_tokens * _MAX_CHARS_A_TOKEN:
            raise BadInput(
                f"the row has {request.chars:,} characters, far beyond the {max_tokens:,} tokens "
                "that are read; split its documents over several rows, or raise --max-input"
            )
        if request.chars * _MAX_TOKENS_A_CHAR <= max_tokens:
            return
        tokens = sum(self.counter.count_many([passage.text for passage in request.passages]))
        if tokens > max_tokens:
            raise BadInput(
                f"the row has {tokens:,} tokens and at most {max_tokens:,} are read; allow it with "
                f"--max-input {tokens} --retry-errors, or split its documents over several rows"
            )


def row_groups(chars: Sequence[int], batch_chars: int) -> Iterator[list[int]]:
    """Positions of rows that are read together: of similar length, shortest first.

    Args:
        chars: of each row. batch_chars: those of one batch of the proxy; 0 for every row alone.
    """
    group: list[int] = []
    group_chars = 0
    for place in sorted(range(len(chars)), key=lambda i: (chars[i], i)):
        full = group_chars + chars[place] > batch_chars * _BATCHES_A_GROUP or len(group) == MAX_ROWS
        if group and (full or chars[place] * _ROWS_A_BATCH > batch_chars):
            yield group
            group, group_chars = [], 0
        group.append(place)
        group_chars += chars[place]
    if group:
        yield group


def _open_cache(job: BatchJob) -> PassageCache | None:
    return None if job.cache is None else PassageCache(folder=Path(job.cache))


def _error_outcome(error: Exception) -> RowOutcome:
    name = "" if isinstance(error, TamisError) else f"{type(error).__name__}: "
    return RowOutcome(status="error", error=f"{name}{error}")
