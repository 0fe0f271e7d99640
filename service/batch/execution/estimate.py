"""What a batch would read and how long it would take, from a sample of its rows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tamis.probes.errors import BadInput
from tamis.service.batch.execution.row_compressor import Rows
from tamis.service.batch.job import Job
from tamis.service.batch.output import Plan
from tamis.service.batch.row_reader import Reader
from tamis.service.batch.rows import Request, request_of

SAMPLED_PARTS = 8
ROWS_A_PART = 8
SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A forecast.

    Attributes:
        rows, parts: of the whole input, counted. tokens: of its documents, estimated.
        sampled: rows that were looked at; unusable: those of them that would fail.
        seconds: for all rows and one worker; measured on `timed` rows.
    """

    rows: int
    parts: int
    tokens: int
    sampled: int
    unusable: int
    timed: int
    seconds: float


def estimate(job: Job, plan: Plan) -> Estimate:
    """Counts a sample of rows, spread over the input, and compresses some for ten seconds."""
    requests, unusable = _sample(job, plan)
    sampled = len(requests) + unusable
    rows = Rows(job)
    texts = [passage.text for request in requests for passage in request.passages]
    tokens = sum(rows.counter.count_many(texts))
    scale = plan.rows / max(1, sampled)
    timed, seconds = _timed(rows, requests)
    return Estimate(
        plan.rows,
        len(plan.parts),
        round(tokens * scale),
        sampled,
        unusable,
        timed,
        seconds / max(1, timed) * plan.rows,
    )


def _sample(job: Job, plan: Plan) -> tuple[list[Request], int]:
    every = max(1, len(plan.parts) // SAMPLED_PARTS)
    requests, unusable = [], 0
    reader = Reader(plan.sources, job)
    for part in plan.parts[::every][:SAMPLED_PARTS]:
        rows = reader.rows(part)
        for row in rows[:: max(1, len(rows) // ROWS_A_PART)][:ROWS_A_PART]:
            try:
                requests.append(request_of(row, job))
            except BadInput:
                unusable += 1
    reader.close()
    return requests, unusable


def _timed(rows: Rows, requests: list[Request]) -> tuple[int, float]:
    """How many rows were compressed in how many seconds; the first one, which warms up, aside."""
    rows.outcomes(requests[:1])
    clock, done = time.perf_counter(), 0
    while done < len(requests) and time.perf_counter() - clock < SECONDS:
        done += len(rows.outcomes(requests[done : done + ROWS_A_PART]))
    return done, time.perf_counter() - clock
