"""Runs a batch from its beginning or from where a run stopped, and estimates what it takes."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.method import check_scores
from tamis.compressors.pipeline.compression import (
    check_can_tell,
    check_granularity,
    check_threshold,
    no_coverage_error,
)
from tamis.compressors.registry import build_method, method_class, method_info
from tamis.probes.errors import BadInput
from tamis.service.api.languages import ProxyChoice, choose_proxy, probe_option
from tamis.service.api.lazy_method import LazyMethod
from tamis.service.batch.job import BatchJob, RunOptions, describe_differences, resume_settings
from tamis.service.batch.outcomes import RowOutcome, columns_of
from tamis.service.batch.output import OutputFolder, PartReceipt
from tamis.service.batch.plan import BatchPart, BatchPlan, Columns, file_stamp, survey_files
from tamis.service.batch.rows import InputRow, PartRows, RowRequest, request_of
from tamis.service.files.input_files import InputFile, find_input_files
from tamis.text.types import Passage
from tamis.text.units.segment import units_of

if TYPE_CHECKING:
    from tamis.service.batch.row_compressor import RowCompressor

SCHEMA_ROWS = 200


@dataclass(slots=True)
class RunSummary:
    """Totals over the parts that are done, by this run or an earlier one.

    Attributes:
        failures: location and message of the first hundred failed rows.
        rows, failed, tokens_in, tokens_out, parts: of all completed parts of the shard.
        unusable: how many of the failed rows were refused unread.
    """

    rows: int = 0
    failed: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    parts: int = 0
    unusable: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, receipt: PartReceipt) -> None:
        """Adds the counts of a part."""
        self.parts += 1
        self.rows += receipt.rows
        self.failed += len(receipt.failed)
        self.unusable += receipt.unusable
        self.tokens_in += receipt.tokens_in
        self.tokens_out += receipt.tokens_out
        self.failures += [why for _, why in receipt.failed[: 100 - len(self.failures)]]


@dataclass(frozen=True, slots=True)
class PreparedBatch:
    """A batch that is ready to run.

    Attributes:
        summary: of the parts that are done. remaining: parts that are not done yet.
        redo: parts that are done and whose failed rows are to be repeated.
        parts: number of parts of the shard.
    """

    plan: BatchPlan
    summary: RunSummary
    remaining: tuple[BatchPart, ...]
    redo: tuple[BatchPart, ...]
    parts: int

    @property
    def remaining_rows(self) -> int:
        """Rows of the parts that are to be run."""
        return sum(part.rows for part in (*self.remaining, *self.redo))


def prepare_batch(job: BatchJob, options: RunOptions, held: ExitStack) -> PreparedBatch:
    """Surveys the input, or loads the plan of an earlier run, and finds the remaining parts.

    Args:
        held: keeps other runs from the parts until it is closed.

    Raises:
        BadInput: there is no input, its fields have other names, another run writes the same parts,
            or the output folder holds another batch, maybe of a run that was started at the same
            time; then the message names the differences.
    """
    output = OutputFolder(options.out)
    before = None if options.overwrite else output.read_plan()
    plan = plan_batch(job, options, before)
    output.hold((1, 1) if options.overwrite else options.shard, held)
    if options.overwrite:
        output.clear()
    if (found := output.keep_plan(plan)) != before:  # written just now, maybe by another run
        plan = plan_batch(job, options, found)
    index, count = options.shard  # from 1
    mine = [part for part in plan.parts if part.index % count == index - 1]
    output.remove_partial_files(mine)
    summary, redo, done = RunSummary(), [], set()
    for part, receipt in output.completed_parts(plan, mine, whole=True):
        done.add(part.index)
        if options.retry_errors and receipt.failed:
            redo.append(part)
        else:
            summary.add(receipt)
    remaining = tuple(part for part in mine if part.index not in done)
    return PreparedBatch(plan, summary, remaining, tuple(redo), len(mine))


def plan_batch(job: BatchJob, options: RunOptions, before: BatchPlan | None) -> BatchPlan:
    """The plan of this batch: that of an earlier run if settings and input are the same.

    Raises:
        BadInput: settings or input differ from those of the earlier run.
    """
    now = resume_settings(job)
    if before is not None and (changed := describe_differences(before.settings, now)):
        raise BadInput(_refusal_message(options.out, changed))
    sources = find_input_files(options.inputs, options.out)
    if before is not None and _has_same_stamps(before, sources):
        return replace(before, sources=tuple(sources))
    plan = make_plan(job, sources, now)
    if before is None:
        return plan
    if changed := _describe_changed_inputs(before, plan):
        raise BadInput(_refusal_message(options.out, changed))
    return replace(before, sources=plan.sources)


def make_plan(
    job: BatchJob, sources: Sequence[InputFile], settings: dict[str, object]
) -> BatchPlan:
    """Cuts input files into parts, after a check that some of their first rows can be used."""
    kinds = {source.kind for source in sources}
    if job.format == "parquet" and "parquet" in kinds and len(kinds) > 1:
        raise BadInput("Parquet and other inputs share no schema; give --format jsonl")
    parts, inputs = survey_files(sources, job.cut)
    samples, reader = list[tuple[InputFile, InputRow]](), PartRows(sources, job)
    for number, own in groupby(parts, key=attrgetter("source")):
        samples += [(sources[number], row) for row in reader.read_rows(next(own))[:SCHEMA_ROWS]]
    reader.close()
    _check_schema(samples, job)
    needs_columns = job.format == "parquet" and "parquet" not in kinds
    columns: Columns = columns_of(row for _, row in samples) if needs_columns else ()
    rows = sum(part.rows for part in parts)
    plan = BatchPlan(settings, tuple(sources), tuple(inputs), tuple(parts), job.format)
    return replace(plan, columns=columns, rows=rows)


def _check_schema(samples: Sequence[tuple[InputFile, InputRow]], job: BatchJob) -> None:
    """Refuses input without a usable row among the first: its fields have other names."""
    first = None
    for source, row in samples:
        try:
            request_of(row, job)
            return
        except BadInput as error:
            first = first or f"{source.location(row.number)}: {error}"
    raise BadInput(f"{first} (none of the first {len(samples)} rows can be used)")


def _has_same_stamps(before: BatchPlan, sources: Sequence[InputFile]) -> bool:
    return [source.names for source in before.sources] == [s.names for s in sources] and [
        one["stamp"] for one in before.inputs
    ] == [file_stamp(source) for source in sources]


def _describe_changed_inputs(before: BatchPlan, now: BatchPlan) -> list[str]:
    """Messages on inputs with another content; another path or time alone is not a change."""
    if len(before.inputs) != len(now.inputs):
        return [f"there were {len(before.inputs)} inputs and there are {len(now.inputs)}"]
    return [
        f"{new['name']} changed ({old['rows']:,} rows then, {new['rows']:,} now)"
        for old, new in zip(before.inputs, now.inputs, strict=True)
        if old["sha256"] != new["sha256"]
    ]


def _refusal_message(out: str, changed: Sequence[str]) -> str:
    listed = "; ".join(changed)
    return (
        f"{out} holds another batch: {listed}. Name another folder, "
        "or start this one over with --overwrite"
    )


CountCallback = Callable[[int, int, int, int], None]
"""Called with how many more rows are done, how many of them failed, their tokens in and out."""


def run_batch(
    job: BatchJob, options: RunOptions, prepared: PreparedBatch, on_done: CountCallback
) -> RunSummary:
    """Runs the remaining parts.

    Args:
        on_done: called for each row that is compressed in this process, else for each part.

    Raises:
        RowFailed: a row failed and `stop_on_error` is set.
        BadInput: the disk is full, or the input changed.
    """
    for parts, redo in ((prepared.remaining, False), (prepared.redo, True)):
        if parts:
            for receipt in _run_parts(job, options, prepared.plan, parts, redo, on_done):
                prepared.summary.add(receipt)
    return prepared.summary


def _run_parts(
    job: BatchJob,
    options: RunOptions,
    plan: BatchPlan,
    parts: Sequence[BatchPart],
    redo: bool,
    on_done: CountCallback,
) -> Iterator[PartReceipt]:
    from tamis.service.batch.workers import PartWorker, run_in_processes, run_on_ray

    if options.engine == "local" and options.workers == 1:
        worker = PartWorker(job, plan, options, redo)

        def count_row(row: RowOutcome) -> None:
            on_done(1, row.status == "error", row.tokens_in or 0, row.tokens_out or 0)

        yield from (worker.run(part, count_row) for part in parts)
        return
    run = run_on_ray if options.engine == "ray" else run_in_processes
    for receipt in run(job, options, plan, parts, redo):
        on_done(receipt.rows, len(receipt.failed), receipt.tokens_in, receipt.tokens_out)
        yield receipt


def check_job(job: BatchJob) -> None:
    """Refuses a method that does not compress, and rules that would fail for every row.

    Whether a probe gives probabilities is known only once its model is loaded: the rows check that.

    Raises:
        BadInput: the error that the first row would have.
    """
    check_scores(method_info(job.method), job.method)
    method = LazyMethod(job.method, job.proxy, Path(job.root) if job.root else None, **job.options)
    check_granularity(job.rules.granularity, method, job.method)
    _check_probabilities(job)


def _check_probabilities(job: BatchJob) -> None:
    """Refuses a threshold or coverage of a method that gives no probabilities."""
    budget = job.budget
    if budget.coverage is not None and not method_class(job.method).promises_coverage:
        raise no_coverage_error(job.method)
    has_policy = job.rules.unanswerable not in ("auto", "best_effort")
    needs_probabilities = budget.threshold is not None or has_policy
    if needs_probabilities and method_info(job.method).needs == "nothing":
        passages = (Passage("It is so. It was not."),)
        scores = build_method(job.method, **job.options).scores(
            "Is it?", passages, units_of(passages)
        )
        check_threshold(budget, scores, job.method)
        check_can_tell(scores, job.rules, job.method)


SAMPLED_ROWS = 16
"""Rows of each of the first `SAMPLED_FILES` input files whose language is determined."""
SAMPLED_FILES = 4


def choose_batch_proxy(
    job: BatchJob, inputs: Sequence[str], out: str | None = None, quality: str = "standard"
) -> ProxyChoice:
    """The proxy for a batch whose own is `auto`.

    A batch has one proxy, so that it can be resumed and compared; if its language is not named, it
    is that of some of its first rows. Sentences are still found in the language of each row.

    Raises:
        BadInput: there is no input.
    """
    requests = list(_first_requests(job, inputs, out))
    question = "\n".join(request.asked for request in requests)
    passages = [passage for request in requests for passage in request.passages]
    root = Path(job.root) if job.root else None
    given = job.proxy, job.method, job.language
    return choose_proxy(*given, question, passages, root, probe_option(job.options), quality)


def _first_requests(job: BatchJob, inputs: Sequence[str], out: str | None) -> Iterator[RowRequest]:
    sources = find_input_files(inputs, out)
    reader = PartRows(sources, job)
    try:
        for number in range(min(SAMPLED_FILES, len(sources))):
            for row in reader.first_rows(number, SAMPLED_ROWS):
                if request := _usable_request(row, job):
                    yield request
    finally:
        reader.close()


SAMPLED_PARTS, ROWS_A_PART, ROWS_AT_ONCE = 16, 4, 8
TIMED_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BatchEstimate:
    """The expected size and time of a batch.

    Attributes:
        rows, parts: of the whole input, counted. tokens: of its documents, estimated.
        sampled: rows of the sample; unusable: those of them that would fail.
        seconds: for all rows and one worker; from the tokens and time of `timed` rows.
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
    from tamis.service.batch.row_compressor import RowCompressor

    compressor = RowCompressor(job)
    requests, weights, unusable = _sample_requests(job, plan, compressor.check_size)
    count = compressor.counter.count_many
    tokens = [sum(count([one.text for one in request.passages])) for request in requests]
    total = sum(map(operator.mul, tokens, weights))
    timed, seconds = _time_rows(compressor, requests)
    seconds *= total / max(1, sum(tokens[:timed]))
    size = plan.rows, len(plan.parts), round(total)
    return BatchEstimate(*size, len(requests) + unusable, unusable, timed, seconds)


def _sample_requests(
    job: BatchJob, plan: BatchPlan, check: Callable[[RowRequest], None]
) -> tuple[list[RowRequest], list[float], int]:
    """Rows from all over the input, what each is multiplied with, and how many are unusable.

    Rows stand for their part by the characters of their documents, and parts for those of about
    their size by their bytes, or by their rows where a file has no lines: a part that a single row
    swells stands for itself.

    Args:
        check: refuses a row that would not be compressed.
    """
    requests, weights, unusable = list[RowRequest](), list[float](), 0
    has_bytes = all(part.stop for part in plan.parts)
    sizes = [part.stop - part.start if has_bytes else part.rows for part in plan.parts]
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    chosen = _spread(range(len(order)), SAMPLED_PARTS)
    bounds = [0, *((a + b + 1) // 2 for a, b in pairwise(chosen)), len(order)]
    like = [sum(sizes[i] for i in order[a:b]) for a, b in pairwise(bounds)]
    reader = PartRows(plan.sources, job)
    for place, stands_for in sorted(zip(map(order.__getitem__, chosen), like, strict=True)):
        rows = reader.read_rows(plan.parts[place])
        every = [_usable_request(row, job, check) for row in rows]
        sample = _spread(every, ROWS_A_PART)
        own = [request for request in sample if request]
        chars = [sum(_document_chars(one) for one in some if one) for some in (every, sample)]
        requests += own
        weights += [chars[0] / max(1, chars[1]) * stands_for / max(1, sizes[place])] * len(own)
        unusable += len(sample) - len(own)
    reader.close()
    return requests, weights, unusable


def _document_chars(request: RowRequest) -> int:
    return sum(len(passage.text) for passage in request.passages)


def _usable_request(
    row: InputRow, job: BatchJob, check: Callable[[RowRequest], None] = lambda request: None
) -> RowRequest | None:
    """The request of a row; None for one that becomes an error row."""
    try:
        request = request_of(row, job)
        check(request)
    except BadInput:
        return None
    return request


def _spread(items: Sequence[Any], most: int) -> list[Any]:
    """So many of the items, the first, the last and others at even distances; all if few."""
    count = min(most, len(items))
    return [items[i * (len(items) - 1) // max(1, count - 1)] for i in range(count)]


def _time_rows(compressor: RowCompressor, requests: list[RowRequest]) -> tuple[int, float]:
    """Number of rows compressed, and the seconds; the first row, which warms up, is left out."""
    compressor.compress_rows(requests[:1])
    clock, done = time.perf_counter(), 0
    while done < len(requests) and time.perf_counter() - clock < TIMED_SECONDS:
        done += len(compressor.compress_rows(requests[done : done + ROWS_AT_ONCE]))
    return done, time.perf_counter() - clock
