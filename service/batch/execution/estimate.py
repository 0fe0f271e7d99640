"""Estimates the tokens and the time of a batch from a sample of its rows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tamis.probes.errors import BadInput
from tamis.service.batch.execution.row_compressor import RowCompressor
from tamis.service.batch.job import BatchJob
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.row_reader import PartReader
from tamis.service.batch.rows import RowRequest, request_of

SAMPLED_PARTS = 8
ROWS_A_PART = 8
TIMED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BatchEstimate:
    """The expected size and time of a batch.

    Attributes:
        rows, parts: of the whole input, counted. tokens: of its documents, estimated.
        sampled: rows of the sample; unusable: those of them that would fail.
        seconds: for all rows and one worker; measured on `timed` rows.
    """

    rows: int
    parts: int
    tokens: int
    sampled: int
    unusable: int
    timed: int
    seconds: float


def estimate_batch(job: BatchJob, plan: BatchPlan) -> BatchEstimate:
    """Counts the tokens of rows from all over the input, and compresses some for ten seconds."""
    requests, unusable = _sample_requests(job, plan)
    sampled = len(requests) + unusable
    compressor = RowCompressor(job)
    texts = [passage.text for request in requests for passage in request.passages]
    tokens = sum(compressor.counter.count_many(texts))
    scale = plan.rows / max(1, sampled)
    timed, seconds = _time_rows(compressor, requests)
    return BatchEstimate(
        plan.rows,
        len(plan.parts),
        round(tokens * scale),
        sampled,
        unusable,
        timed,
        seconds / max(1, timed) * plan.rows,
    )


def _sample_requests(job: BatchJob, plan: BatchPlan) -> tuple[list[RowRequest], int]:
    every = max(1, len(plan.parts) // SAMPLED_PARTS)
    requests, unusable = [], 0
    reader = PartReader(plan.sources, job)
    for part in plan.parts[::every][:SAMPLED_PARTS]:
        rows = reader.read_rows(part)
        for row in rows[:: max(1, len(rows) // ROWS_A_PART)][:ROWS_A_PART]:
            try:
                requests.append(request_of(row, job))
            except BadInput:
                unusable += 1
    reader.close()
    return requests, unusable


def _time_rows(compressor: RowCompressor, requests: list[RowRequest]) -> tuple[int, float]:
    """Number of rows compressed, and the seconds; the first row, which warms up, is left out."""
    compressor.compress_rows(requests[:1])
    clock, done = time.perf_counter(), 0
    while done < len(requests) and time.perf_counter() - clock < TIMED_SECONDS:
        done += len(compressor.compress_rows(requests[done : done + ROWS_A_PART]))
    return done, time.perf_counter() - clock
